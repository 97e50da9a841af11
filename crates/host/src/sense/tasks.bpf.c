// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The task iterator: every process that is there already.
#include "record.h"

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
