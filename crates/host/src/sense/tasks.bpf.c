// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The task iterator: every process that is there already.
#include "record.h"

// As Member in wire.rs.
struct member {
    u64 start;
    u32 pid, parent;
    u32 life; // as `state` of /proc/PID/stat tells it
    u32 kernel;
};
_Static_assert(sizeof(struct member) == 24, "as Member in wire.rs");

enum life { LIFE_RUNS = 0, LIFE_STOPPED = 1, LIFE_ZOMBIE = 2 };

#define PF_KTHREAD 0x00200000
#define STOPPED_OR_TRACED (4 | 8)
#define EXIT_ZOMBIE_OR_DEAD (0x20 | 0x10)

static __always_inline u32 life_of(struct task_struct *task)
{
    if (task->exit_state & EXIT_ZOMBIE_OR_DEAD)
        return task->signal->nr_threads > 1 ? LIFE_RUNS : LIFE_ZOMBIE; // its other threads live on
    long state = bpf_core_field_exists(task->__state) ? task->__state : ((struct task_struct___5_13 *)task)->state;
    return state & STOPPED_OR_TRACED ? LIFE_STOPPED : LIFE_RUNS;
}

// Every process of the scope, and no more of it than a stop needs to know.
SEC("iter/task")
int members(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    if (!task || task->pid != task->tgid || !is_member(task))
        return 0;
    struct member member = {};
    member.start = task->start_boottime;
    member.pid = pid_of(task);
    member.parent = pid_of(task->real_parent->group_leader);
    member.life = life_of(task);
    member.kernel = (task->flags & PF_KTHREAD) != 0;
    if (member.pid)
        bpf_seq_write(context->meta->seq, &member, sizeof member);
    return 0;
}

// KERNEL 5.8: struct bpf_iter__task
SEC("iter/task")
int tasks(struct bpf_iter__task *context)
{
    struct task_struct *task = context->task;
    if (!task || task->pid != task->tgid)
        return 0;
    struct record *record = begin_for(task, KIND_TASK);
    if (!record || !record->pid)
        return 0;
    fill_parent(record, task);
    struct file *file = BPF_CORE_READ(task, mm, exe_file);
    if (file) {
        struct inode *inode = BPF_CORE_READ(file, f_inode);
        fill_inode(record, inode);
        record->flags = BPF_CORE_READ(inode, i_nlink) == 0 ? FLAG_FILELESS : 0;
        record->path_bytes = walk(record, 0, BPF_CORE_READ(file, f_path.dentry));
    }
    struct dentry *pwd = BPF_CORE_READ(task, fs, pwd.dentry);
    if (pwd) {
        record->base_device = BPF_CORE_READ(pwd, d_sb, s_dev);
        record->base_bytes = walk(record, record->path_bytes, pwd) - record->path_bytes;
    }
    u64 size = RECORD_HEAD + ((u32)record->path_bytes + record->base_bytes & (2 * DATA_BYTES - 1));
    if (size > sizeof(struct record))
        size = sizeof(struct record);
    bpf_seq_write(context->meta->seq, &size, sizeof size);
    bpf_seq_write(context->meta->seq, record, size);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
