// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Files: system calls that change names, content or attributes. Names come from fanotify, except where a descriptor
// leads to the file.
#pragma once
#include "../network/network.bpf.h"

enum class {
    CLASS_NONE, CLASS_OPEN, CLASS_WRITE, CLASS_RENAME, CLASS_UNLINK, CLASS_MKDIR, CLASS_MKNOD, CLASS_LINK,
    CLASS_SYMLINK, CLASS_ATTRIBUTES, CLASS_XATTR, CLASS_TRUNCATE, CLASS_EXEC, CLASS_CREDENTIALS, CLASS_INJECT,
    CLASS_URING, CLASS_ACCEPT,
};
struct call { u64 enter; u64 cgroup; u32 nr; u32 flags; };
#define NR_NONE 0xffffffff // the thread is in no such call
// Running calls that may change a file, by thread. The vault's permission thread reads it too. A thread that is pushed out, or
// whose number another has by now, is one whose call is not known.
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384); __type(key, u32); __type(value, struct call); } running SEC(".maps");

struct written { u64 device, inode; u32 pid, generation; };
// Files that a process has written to since it opened them.
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384); __type(key, struct written); __type(value, u8); } first_writes SEC(".maps");

#define O_WRONLY 01
#define O_RDWR 02
#define O_CREAT 0100
#define O_TRUNC 01000
#define FMODE_WRITE 2
#define FMODE_CREATED (1 << 20)
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_TYPE 15
#define FICLONE 0x40049409
#define FICLONERANGE 0x4020940d
#define TS_COMPAT 2
#define AT_FDCWD -100

#define NR_OPEN 2
#define NR_MMAP 9
#define NR_IOCTL 16
#define NR_SENDFILE 40
#define NR_CREAT 85
#define NR_LINK 86
#define NR_PTRACE 101
#define NR_OPENAT 257
#define NR_LINKAT 265
#define NR_SPLICE 275
#define NR_FALLOCATE 285
#define NR_FTRUNCATE 77
#define NR_PROCESS_VM_WRITEV 311
#define NR_COPY_FILE_RANGE 326
#define NR_OPENAT2 437

struct arguments { u64 a, b, c, d, e; u32 nr; u16 class; bool compat; };

static __always_inline bool decode(struct pt_regs *regs, long nr, struct arguments *arguments)
{
    if (nr < 0 || nr >= NR_MAX)
        return false;
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    arguments->compat = task->thread_info.status & TS_COMPAT;
    if (arguments->compat) {
        arguments->class = config.classes_32[nr & (NR_MAX - 1)];
        arguments->nr = config.numbers_32[nr & (NR_MAX - 1)];
        if (!arguments->class)
            return false;
        arguments->a = (u32)regs->bx;
        arguments->b = (u32)regs->cx;
        arguments->c = (u32)regs->dx;
        arguments->d = (u32)regs->si;
        arguments->e = (u32)regs->di;
    } else {
        arguments->class = config.classes[nr & (NR_MAX - 1)];
        arguments->nr = nr;
        if (!arguments->class)
            return false;
        arguments->a = regs->di;
        arguments->b = regs->si;
        arguments->c = regs->dx;
        arguments->d = regs->r10;
        arguments->e = regs->r8;
    }
    return in_scope();
}

// KERNEL 5.5: TP_PROTO(struct pt_regs *regs, long id)
SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long nr)
{
    struct arguments arguments = {};
    if (!decode(regs, nr, &arguments))
        return 0;
    if (arguments.class == CLASS_WRITE || arguments.class == CLASS_CREDENTIALS || arguments.class == CLASS_INJECT ||
        arguments.class == CLASS_ACCEPT)
        return 0; // all that is needed is still there when it returns
    struct call call = { .nr = arguments.nr, .enter = bpf_ktime_get_boot_ns(), .cgroup = bpf_get_current_cgroup_id() };
    if (arguments.class == CLASS_OPEN) {
        switch (arguments.nr) {
        case NR_OPEN:
            call.flags = arguments.b;
            break;
        case NR_CREAT:
            call.flags = O_CREAT | O_WRONLY | O_TRUNC;
            break;
        case NR_OPENAT:
            call.flags = arguments.c;
            break;
        case NR_OPENAT2: {
            u64 flags = O_RDWR; // unreadable: assume the worst
            bpf_probe_read_user(&flags, sizeof flags, (void *)arguments.c);
            call.flags = flags;
            break;
        }
        }
    }
    u32 tid = pid_of((struct task_struct *)bpf_get_current_task_btf());
    // A thread keeps its element from call to call: to make and to delete one costs more than all the rest here.
    struct call *found = bpf_map_lookup_elem(&running, &tid);
    if (found)
        *found = call;
    else
        bpf_map_update_elem(&running, &tid, &call, BPF_ANY);
    return 0;
}

static __always_inline bool is_real(struct inode *inode)
{
    if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
        return false;
    u64 magic = BPF_CORE_READ(inode, i_sb, s_magic);
    // procfs, sysfs, cgroup2, cgroup: their regular files are switches of the kernel, not content.
    return magic != 0x9fa0 && magic != 0x62656572 && magic != 0x63677270 && magic != 0x27e0eb;
}

static __always_inline void fill_open(struct record *record, struct arguments *arguments, struct call *call)
{
    record->enter = call->enter;
    record->nr = arguments->nr;
    record->class = arguments->class;
    record->value = call->flags;
}

#define FOUR(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)
#define NAME_LENGTH_MIN 4

// By the first four characters of its name, or the last: the engine's `is_secret` looks closer.
static __always_inline bool may_be_secret(struct dentry *dentry)
{
    u32 length = BPF_CORE_READ(dentry, d_name.len);
    const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
    if (length < NAME_LENGTH_MIN || length > NAME_BYTES)
        return false;
    u32 first = 0, last = 0;
    bpf_probe_read_kernel(&first, sizeof first, name);
    bpf_probe_read_kernel(&last, sizeof last, name + length - sizeof last);
    return first == FOUR('s', 's', 'h', '_') || first == FOUR('i', 'd', '_', 'r') || first == FOUR('i', 'd', '_', 'e') ||
           first == FOUR('i', 'd', '_', 'd') || first == FOUR('s', 'h', 'a', 'd') || first == FOUR('g', 's', 'h', 'a') ||
           first == FOUR('.', 'p', 'g', 'p') || first == FOUR('.', 'n', 'e', 't') || first == FOUR('.', 'm', 'y', '.') ||
           first == FOUR('.', 'g', 'i', 't') || last == FOUR('.', 'k', 'e', 'y') || last == FOUR('.', 'p', 'e', 'm') ||
           last == FOUR('i', 'a', 'l', 's');
}

// What everybody may read is no secret: most files are left here.
static __always_inline void read_secret(struct task_struct *task, struct arguments *arguments, struct call *call, long fd)
{
    struct file *file = file_at(task, fd);
    if (!file)
        return;
    struct inode *inode = BPF_CORE_READ(file, f_inode);
    if (BPF_CORE_READ(inode, i_mode) & 0007 || !is_real(inode))
        return;
    struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
    if (!may_be_secret(dentry))
        return;
    struct record *record = begin_for(task, KIND_READ);
    if (!record || !record->pid || record->pid == config.agent_pid)
        return;
    fill_open(record, arguments, call);
    fill_inode(record, inode);
    record->value = BPF_CORE_READ(inode, i_uid.val);
    record->other_pid = BPF_CORE_READ(inode, i_gid.val);
    record->path_bytes = walk(record, 0, dentry);
    submit(record, record->path_bytes);
}

static __always_inline void opened(struct task_struct *task, struct arguments *arguments, struct call *call, long fd)
{
    if (!(call->flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) {
        read_secret(task, arguments, call, fd);
        return;
    }
    struct file *file = file_at(task, fd);
    if (!file)
        return;
    struct inode *inode = BPF_CORE_READ(file, f_inode);
    u32 mode = BPF_CORE_READ(file, f_mode);
    struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
    u32 kind = KIND_OPEN;
    if (!is_real(inode)) {
        if (BPF_CORE_READ(inode, i_sb, s_magic) != 0x9fa0 || !(mode & FMODE_WRITE))
            return;
        char name[4] = {};
        bpf_probe_read_kernel_str(name, sizeof name, BPF_CORE_READ(dentry, d_name.name));
        if (name[0] != 'm' || name[1] != 'e' || name[2] != 'm')
            return;
        kind = KIND_INJECT; // /proc/PID/mem
    } else if (!(mode & (FMODE_WRITE | FMODE_CREATED)) || BPF_CORE_READ(inode, i_nlink) == 0) {
        return;
    }
    struct record *record = begin_for(task, kind);
    if (!record || !record->pid || record->pid == config.agent_pid)
        return;
    fill_open(record, arguments, call);
    if (mode & FMODE_CREATED)
        record->flags |= FLAG_CREATED;
    fill_inode(record, inode);
    struct written key = { record->device, record->inode, record->pid, record->generation };
    if (call->flags & O_TRUNC && !(mode & FMODE_CREATED)) {
        u8 one = 1;
        bpf_map_update_elem(&first_writes, &key, &one, BPF_ANY);
    } else {
        bpf_map_delete_elem(&first_writes, &key);
    }
    record->path_bytes = walk(record, 0, dentry);
    submit(record, record->path_bytes);
}

static __always_inline void wrote(struct task_struct *task, struct arguments *arguments, long result)
{
    u32 fd = arguments->a;
    switch (arguments->nr) {
    case NR_MMAP:
        if (!(arguments->c & PROT_WRITE) || (arguments->d & MAP_TYPE & 3) == 2)
            return; // read-only or private
        fd = arguments->e;
        break;
    case NR_COPY_FILE_RANGE:
    case NR_SPLICE:
        fd = arguments->c;
        break;
    case NR_IOCTL:
        if (arguments->b != FICLONE && arguments->b != FICLONERANGE)
            return;
        break;
    case NR_FTRUNCATE:
    case NR_FALLOCATE:
        break;
    default:
        if (result == 0)
            return;
    }
    struct file *file = file_at(task, fd);
    if (!file || !(BPF_CORE_READ(file, f_mode) & FMODE_WRITE))
        return;
    struct inode *inode = BPF_CORE_READ(file, f_inode);
    if (!is_real(inode) || BPF_CORE_READ(inode, i_nlink) == 0)
        return;
    struct written key = {
        .device = BPF_CORE_READ(inode, i_sb, s_dev),
        .inode = BPF_CORE_READ(inode, i_ino),
        .generation = BPF_CORE_READ(inode, i_generation),
        .pid = pid_of(task->group_leader),
    };
    u8 one = 1;
    // Asked first: an update makes an element before it finds that there is one.
    if (key.pid == config.agent_pid || bpf_map_lookup_elem(&first_writes, &key) ||
        bpf_map_update_elem(&first_writes, &key, &one, BPF_NOEXIST))
        return; // ours, or not the first
    struct record *record = begin_for(task, KIND_WRITE);
    if (!record || !record->pid)
        return;
    record->nr = arguments->nr;
    record->class = arguments->class;
    fill_inode(record, inode);
    record->path_bytes = walk(record, 0, BPF_CORE_READ(file, f_path.dentry));
    submit(record, record->path_bytes);
}

static __always_inline void injected(struct task_struct *task, struct arguments *arguments)
{
    u32 target = arguments->a;
    if (arguments->nr == NR_PTRACE) {
        if (arguments->a != 16 && arguments->a != 0x4206)
            return; // neither PTRACE_ATTACH nor PTRACE_SEIZE
        target = arguments->b;
    }
    struct record *record = begin_for(task, KIND_INJECT);
    if (!record || !record->pid)
        return;
    record->nr = arguments->nr;
    record->value = target;
    submit(record, 0);
}

static __always_inline u32 copy_path(struct record *record, u32 at, u64 from)
{
    if (!from || at >= DATA_BYTES)
        return 0;
    long bytes = bpf_probe_read_user_str(&record->data[at & (DATA_BYTES - 1)], 1024, (void *)from);
    return bytes > 0 ? bytes & 2047 : 0;
}

// KERNEL 5.5: TP_PROTO(struct pt_regs *regs, long ret)
SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
    struct arguments arguments = {};
    if (!decode(regs, (long)regs->orig_ax, &arguments))
        return 0;
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    if (arguments.class == CLASS_WRITE) {
        if (result >= 0)
            wrote(task, &arguments, result);
        return 0;
    }
    if (arguments.class == CLASS_INJECT) {
        if (result >= 0)
            injected(task, &arguments);
        return 0;
    }
    if (arguments.class == CLASS_ACCEPT) {
        if (result >= 0)
            accepted(task, result);
        return 0;
    }
    if (arguments.class == CLASS_CREDENTIALS) {
        struct record *record = result < 0 ? 0 : begin_for(task, KIND_CREDENTIALS);
        if (!record || !record->pid)
            return 0;
        record->nr = arguments.nr;
        submit(record, 0);
        return 0;
    }

    u32 tid = pid_of(task);
    struct call call = {};
    struct call *found = bpf_map_lookup_elem(&running, &tid);
    if (found) {
        call = *found;
        found->nr = NR_NONE;
    }
    if (result < 0 || arguments.class == CLASS_EXEC || arguments.class == CLASS_URING)
        return 0;
    if (!call.enter || call.nr != arguments.nr) {
        call.enter = 0;
        call.flags = arguments.class == CLASS_OPEN ? O_RDWR : 0; // began before we looked
    }
    if (arguments.class == CLASS_OPEN) {
        opened(task, &arguments, &call, result);
        return 0;
    }
    struct record *record = begin_for(task, KIND_CALL);
    if (!record || !record->pid || record->pid == config.agent_pid)
        return 0;
    if (call.enter)
        record->enter = call.enter;
    record->nr = arguments.nr;
    record->class = arguments.class;
    u32 at = 0;
    switch (arguments.nr) {
    case 91: // fchmod
    case 93: // fchown
    case 190: // fsetxattr
    case 199: { // fremovexattr
        struct file *file = file_at(task, arguments.a);
        if (file)
            fill_inode(record, BPF_CORE_READ(file, f_inode));
        break;
    }
    case 133: // mknod
        record->value = arguments.b;
        break;
    case 259: // mknodat
        record->value = arguments.c;
        break;
    case NR_LINK:
    case NR_LINKAT: {
        // Where the old name starts from.
        int from = arguments.nr == NR_LINKAT ? (int)arguments.a : AT_FDCWD;
        struct dentry *base = BPF_CORE_READ(task, fs, pwd.dentry);
        if (from >= 0) {
            struct file *file = file_at(task, from);
            if (file)
                base = BPF_CORE_READ(file, f_path.dentry);
        }
        record->base_device = BPF_CORE_READ(base, d_sb, s_dev);
        at = walk(record, 0, base);
        record->base_bytes = at;
        break;
    }
    }
    // The paths as the caller wrote them: a hint which of its calls an event belongs to, never a fact.
    u64 first = arguments.a, second = 0;
    switch (arguments.nr) {
    case 82: // rename
    case NR_LINK:
        second = arguments.b;
        break;
    case 264: // renameat
    case 316: // renameat2
    case NR_LINKAT:
        first = arguments.b;
        second = arguments.d;
        break;
    case 88: // symlink
    case 258: // mkdirat
    case 259: // mknodat
    case 260: // fchownat
    case 261: // futimesat
    case 263: // unlinkat
    case 268: // fchmodat
    case 280: // utimensat
    case 452: // fchmodat2
    case 463: // setxattrat
    case 466: // removexattrat
    case 469: // file_setattr
        first = arguments.b;
        break;
    case 266: // symlinkat
        first = arguments.c;
        break;
    case 49: // bind
    case 91:
    case 93:
    case 190:
    case 199:
        first = 0;
    }
    u32 bytes = copy_path(record, at, first);
    record->text_bytes = bytes;
    at += bytes;
    bytes = copy_path(record, at, second);
    record->script_bytes = bytes;
    at += bytes;
    submit(record, at);
    return 0;
}

// KERNEL 6.0: TP_PROTO(struct io_kiocb *req); the thread's own call is io_uring_enter.
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(io_uring_submit_req, struct io_kiocb *request)
{
    if (!in_scope())
        return 0;
    u8 code = BPF_CORE_READ(request, opcode);
    u32 flags = O_RDWR;
    switch (code) {
    case 18: // IORING_OP_OPENAT
    case 28: // IORING_OP_OPENAT2
        flags = BPF_CORE_READ((struct io_open *)request, how.flags);
        break;
    case 2: // WRITEV
    case 5: // WRITE_FIXED
    case 17: // FALLOCATE
    case 23: // WRITE
    case 30: // SPLICE
    case 35: // RENAMEAT
    case 36: // UNLINKAT
    case 37: // MKDIRAT
    case 38: // SYMLINKAT
    case 39: // LINKAT
    case 41: // FSETXATTR
    case 42: // SETXATTR
    case 55: // FTRUNCATE
        break;
    default:
        return 0;
    }
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    u32 tid = pid_of(task);
    struct call call = { .nr = 426, .enter = bpf_ktime_get_boot_ns(), .cgroup = bpf_get_current_cgroup_id(), .flags = flags };
    struct call *found = bpf_map_lookup_elem(&running, &tid);
    if (found && found->nr == call.nr) {
        call.enter = found->enter;
        call.flags |= found->flags; // several requests in one call: the union of what they may do
    }
    bpf_map_update_elem(&running, &tid, &call, BPF_ANY);
    struct record *record = begin_for(task, KIND_URING);
    if (!record || !record->pid)
        return 0;
    record->nr = code;
    record->class = CLASS_URING;
    submit(record, 0);
    return 0;
}

#define PF_IO_WORKER 0x10 // KERNEL 5.12: also threads that poll a ring; before, these were the kernel's own

// KERNEL 5.5: TP_PROTO(struct task_struct *task, unsigned long clone_flags). A thread that works for a ring makes no system
// call by which it would be known, and may be gone when the names of what it did are read.
SEC("tp_btf/task_newtask")
int BPF_PROG(task_newtask, struct task_struct *task)
{
    if (!(task->flags & PF_IO_WORKER) || !in_scope())
        return 0;
    struct record *record = begin_for(task, KIND_URING);
    if (!record || !record->pid)
        return 0;
    record->class = CLASS_URING;
    submit(record, 0);
    return 0;
}
