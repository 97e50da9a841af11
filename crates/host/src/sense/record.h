// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// One record for everything the kernel tells us, and how it is filled. `wire.rs` has the same layout; both
// sides assert the same sizes and offsets when they are compiled.
#pragma once
#include "kernel.h"

enum kind {
    KIND_FORK = 1,       // `other` is the child
    KIND_EXEC = 2,       // path = program, base = working directory, text = argv, environment, script
    KIND_EXIT = 3,       // value = wait status
    KIND_CREDENTIALS = 4, // after a call that may change the user
    KIND_INJECT = 5,     // value = target pid as the caller sees it, or path = below /proc
    KIND_CALL = 6,       // a call on a name succeeded; nr and class tell which
    KIND_OPEN = 7,       // opened for writing or created; value = open flags
    KIND_WRITE = 8,      // first write of this process to this file since it opened it
    KIND_CGROUP = 9,     // cgroup made: `cgroup`, text = its path
    KIND_URING = 10,     // io_uring request that may change files, nr = opcode; or a thread that was made for such
    KIND_TASK = 11,      // from the task iterator
    KIND_FLOW = 12,      // a connection or a listener; nr = OCSF activity, text = struct flow
    KIND_READ = 13,      // a file that others must not read was opened for reading, by the name of a secret; value, other_pid = its owner, group
};

enum flag {
    FLAG_STDIO_0 = 1, FLAG_STDIO_1 = 2, FLAG_STDIO_2 = 4,
    FLAG_FILELESS = 8,       // no link to the program's inode
    FLAG_SCRIPT = 16,        // the program is an interpreter; `script` is what was run
    FLAG_CREATED = 32,       // the call made the file
    FLAG_PATH_CUT = 64,      // deeper than WALK_MAX or longer than the room
    FLAG_COMPAT = 128,       // a 32-bit call
};

#define DATA_BYTES 8192   // LIMIT: bytes of paths, arguments and environment in one record; a power of two
#define DATA_SLACK 2048   // the longest single read
#define WALK_MAX 48       // LIMIT: directories between a file and the root of its file system
#define ARGUMENT_BYTES 1024
#define ENVIRONMENT_BYTES 2048
#define NAME_BYTES 256

#define HEAD \
    u64 time, enter, start, cgroup; \
    u64 parent_start, other_start, device, inode; \
    u64 base_device; \
    u32 kind, nr; \
    u32 pid, tid, parent_pid, other_pid; \
    u32 uid, euid, gid, login_uid; \
    u32 generation, mode, flags, value; \
    u16 path_bytes, base_bytes, text_bytes, environment_bytes, script_bytes, class, reserved[2];

struct head { HEAD };
struct record {
    HEAD
    u8 data[DATA_BYTES + DATA_SLACK];
};
#define RECORD_HEAD __builtin_offsetof(struct record, data)
_Static_assert(RECORD_HEAD == 144 && sizeof(struct head) == RECORD_HEAD, "as RecordHead in wire.rs");
_Static_assert(__builtin_offsetof(struct record, kind) == 72, "as RecordHead in wire.rs");
_Static_assert(__builtin_offsetof(struct record, path_bytes) == 128, "as RecordHead in wire.rs");

#define NR_MAX 512

// The scope, ourselves and the tables of system calls; set before loading.
struct config {
    u64 scope_cgroup;
    u32 agent_pid, agent_pid_namespace;
    u8 classes[NR_MAX];     // by x86-64 number
    u8 classes_32[NR_MAX];  // by i386 number
    u16 numbers_32[NR_MAX]; // the x86-64 number of an i386 one
};
_Static_assert(sizeof(struct config) == 2064, "as Config in wire.rs");
const volatile struct config config SEC(".rodata.config") = {};
#define INITIAL_PID_NAMESPACE 0xEFFFFFFC

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 24); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, struct record); } scratch SEC(".maps");
// Index 0: records that found no room.
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u64); } lost SEC(".maps");

int scope_level = -1; // found by the first process that is in the scope

static __always_inline bool in_scope(void)
{
    int level = scope_level;
    if (level >= 0)
        return bpf_get_current_ancestor_cgroup_id(level) == config.scope_cgroup;
    for (level = 0; level < 16; level++) {
        u64 id = bpf_get_current_ancestor_cgroup_id(level);
        if (!id)
            return false;
        if (id == config.scope_cgroup) {
            scope_level = level;
            return true;
        }
    }
    return false;
}

#define CGROUPS_MAX 64 // LIMIT: levels of the cgroup tree; a process below them counts as outside

// `config.scope_cgroup` is 0: everybody is.
static __always_inline bool is_member(struct task_struct *task)
{
    if (!config.scope_cgroup)
        return true;
    struct cgroup *cgroup = task->cgroups->dfl_cgrp;
    for (int level = 0; level < CGROUPS_MAX; level++) {
        if (cgroup->kn->id == config.scope_cgroup)
            return true;
        struct cgroup_subsys_state *parent = cgroup->self.parent;
        if (!parent)
            return false;
        cgroup = parent->cgroup;
    }
    return false;
}

// What the verifier knows the type of (a task and what it leads to) is read directly: a load, where BPF_CORE_READ is a call.
// Each system call that we look at pays for it.

// Number of a process or thread in the agent's own pid namespace; 0 when it has none there.
static __always_inline u32 pid_of(struct task_struct *task)
{
    if (config.agent_pid_namespace == INITIAL_PID_NAMESPACE)
        return task->pid;
    struct pid *pid = task->thread_pid;
    u32 level = pid->level;
    for (u32 i = 0; i < 8; i++) {
        if (i > level)
            break;
        struct pid_namespace *ns = 0;
        int nr = 0;
        void *entry = (void *)pid + bpf_core_field_offset(pid->numbers) + i * bpf_core_type_size(struct upid);
        bpf_probe_read_kernel(&ns, sizeof ns, entry + bpf_core_field_offset(struct upid, ns));
        if (BPF_CORE_READ(ns, ns.inum) == config.agent_pid_namespace) {
            bpf_probe_read_kernel(&nr, sizeof nr, entry + bpf_core_field_offset(struct upid, nr));
            return nr;
        }
    }
    return 0;
}

static __always_inline void fill_user(struct head *head, struct task_struct *task)
{
    const struct cred *cred = task->cred;
    if (cred) {
        head->uid = cred->uid.val;
        head->euid = cred->euid.val;
        head->gid = cred->gid.val;
    }
    head->login_uid = bpf_core_field_exists(task->loginuid) ? task->loginuid.val : (u32)-1;
}

// Who did it.
static __always_inline void fill_head(struct head *head, struct task_struct *task, u32 kind)
{
    struct task_struct *leader = task->group_leader;
    head->time = bpf_ktime_get_boot_ns();
    head->enter = head->time;
    head->kind = kind;
    head->start = leader->start_boottime;
    head->pid = pid_of(leader);
    head->tid = leader == task ? head->pid : pid_of(task);
    head->cgroup = task->cgroups->dfl_cgrp->kn->id;
    fill_user(head, task);
}

// A record about `task` in the room that all programs of this processor share: none of them runs in an interrupt.
static __always_inline struct record *begin_for(struct task_struct *task, u32 kind)
{
    u32 zero = 0;
    struct record *record = bpf_map_lookup_elem(&scratch, &zero);
    if (!record)
        return 0;
    __builtin_memset(record, 0, RECORD_HEAD);
    fill_head((struct head *)record, task, kind);
    return record;
}

static __always_inline void fill_parent(struct record *record, struct task_struct *task)
{
    struct task_struct *parent = task->group_leader->real_parent->group_leader;
    record->parent_start = parent->start_boottime;
    record->parent_pid = pid_of(parent);
}

#define RB_NO_WAKEUP 1
#define RB_FORCE_WAKEUP 2
#define RB_AVAIL_DATA 0
#define WAITING_BYTES (128 << 10) // so many bytes of records wake the agent, whatever they are

// A wake-up costs the one who acts several microseconds: an interrupt to himself. What the first stop may depend on wakes
// at once; the rest is read with it, with the next name that fanotify tells, or within the agent's own interval.
static __always_inline u64 wake(u32 kind)
{
    switch (kind) {
    case KIND_EXEC:
    case KIND_CREDENTIALS:
    case KIND_INJECT:
    case KIND_CGROUP:
        return RB_FORCE_WAKEUP;
    default:
        return bpf_ringbuf_query(&ring, RB_AVAIL_DATA) > WAITING_BYTES ? RB_FORCE_WAKEUP : RB_NO_WAKEUP;
    }
}

static __always_inline void tell(void *record, u64 size, u32 kind)
{
    if (bpf_ringbuf_output(&ring, record, size, wake(kind))) {
        u32 zero = 0;
        u64 *count = bpf_map_lookup_elem(&lost, &zero);
        if (count)
            *count += 1;
    }
}

static __always_inline void submit(struct record *record, u32 data_bytes)
{
    u64 size = RECORD_HEAD + (data_bytes & (2 * DATA_BYTES - 1));
    if (size > sizeof(struct record))
        size = sizeof(struct record);
    tell(record, size, record->kind);
}

// Names from `dentry` up to the root of its file system, last first, each ended by NUL. Returns the new offset.
static __noinline u32 walk(struct record *record, u32 at, struct dentry *dentry)
{
    if (!record)
        return at;
    for (int i = 0; i < WALK_MAX; i++) {
        struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
        if (parent == dentry && i > 0)
            return at;
        if (at >= DATA_BYTES)
            break;
        at &= DATA_BYTES - 1;
        long bytes = bpf_probe_read_kernel_str(&record->data[at], NAME_BYTES, BPF_CORE_READ(dentry, d_name.name));
        if (bytes <= 0)
            break;
        at += bytes & (2 * NAME_BYTES - 1);
        if (parent == dentry)
            return at;
        dentry = parent;
    }
    record->flags |= FLAG_PATH_CUT;
    return at;
}

static __always_inline void fill_inode(struct record *record, struct inode *inode)
{
    record->device = BPF_CORE_READ(inode, i_sb, s_dev);
    record->inode = BPF_CORE_READ(inode, i_ino);
    record->generation = BPF_CORE_READ(inode, i_generation);
    record->mode = BPF_CORE_READ(inode, i_mode);
}

static __always_inline struct file *file_at(struct task_struct *task, u32 fd)
{
    struct files_struct *files = task->files;
    struct fdtable *table = files ? files->fdt : 0;
    struct file *file = 0;
    if (!table || fd >= table->max_fds)
        return 0;
    bpf_probe_read_kernel(&file, sizeof file, (void *)table->fd + fd * sizeof file);
    return file;
}

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
