// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Processes: fork, exec, exit.
#pragma once
#include "../file/file.bpf.h"

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 4

// KERNEL 5.5: TP_PROTO(struct task_struct *parent, struct task_struct *child)
SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
    if (child->pid != child->tgid || !in_scope())
        return 0; // a thread
    struct record *record = begin_for(parent, KIND_FORK);
    if (!record || !record->pid)
        return 0;
    record->other_pid = pid_of(child);
    record->other_start = child->start_boottime;
    fill_user((struct head *)record, child);
    struct task_struct *real = child->real_parent->group_leader;
    record->parent_pid = pid_of(real);
    record->parent_start = real->start_boottime;
    submit(record, 0);
    return 0;
}

static __always_inline u32 stdio_sockets(struct task_struct *task)
{
    u32 bits = 0;
    for (u32 fd = 0; fd < 3; fd++) {
        struct file *file = file_at(task, fd);
        if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
            continue;
        struct socket *socket = BPF_CORE_READ(file, private_data);
        u16 family = BPF_CORE_READ(socket, sk, __sk_common.skc_family);
        if (BPF_CORE_READ(socket, type) == SOCK_STREAM && (family == AF_INET || family == AF_INET6))
            bits |= 1 << fd;
    }
    return bits;
}

static __always_inline u32 copy_user(struct record *record, u32 at, unsigned long from, unsigned long to, u32 max)
{
    u64 bytes = to > from ? to - from : 0;
    if (bytes > max)
        bytes = max;
    if (at >= DATA_BYTES || !bytes)
        return 0;
    at &= DATA_BYTES - 1;
    if (bpf_probe_read_user(&record->data[at], bytes & (2 * ENVIRONMENT_BYTES - 1) & 0xfff, (void *)from))
        return 0;
    return bytes;
}

static __always_inline bool is_named(const char *comm, const char *name)
{
    return comm[0] == name[0] && comm[1] == name[1] && comm[2] == name[2] && comm[3] == name[3];
}

// sshd and web servers. Whoever takes such a name has its children's environment read, and nothing believed.
static __always_inline bool lets_others_in(const char *comm)
{
    return is_named(comm, "sshd") || is_named(comm, "fcgi") || is_named(comm, "ngin") || is_named(comm, "apac") ||
           is_named(comm, "http") || is_named(comm, "ligh") || is_named(comm, "php-");
}

// KERNEL 5.5: TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
    if (!in_scope())
        return 0;
    u32 old = old_pid;
    if (old != task->pid && config.agent_pid_namespace == INITIAL_PID_NAMESPACE)
        bpf_map_delete_elem(&running, &old); // it takes the number of its group's leader, and its own goes to another
    struct record *record = begin_for(task, KIND_EXEC);
    if (!record || !record->pid)
        return 0;
    fill_parent(record, task);
    struct file *file = BPF_CORE_READ(bprm, file);
    struct inode *inode = BPF_CORE_READ(file, f_inode);
    fill_inode(record, inode);
    record->flags = stdio_sockets(task);
    if (BPF_CORE_READ(inode, i_nlink) == 0)
        record->flags |= FLAG_FILELESS;

    u32 at = walk(record, 0, BPF_CORE_READ(file, f_path.dentry));
    record->path_bytes = at;
    struct dentry *pwd = BPF_CORE_READ(task, fs, pwd.dentry);
    record->base_device = BPF_CORE_READ(pwd, d_sb, s_dev);
    u32 end = walk(record, at, pwd);
    record->base_bytes = end - at;
    at = end;

    struct mm_struct *mm = BPF_CORE_READ(task, mm);
    record->text_bytes =
        copy_user(record, at, BPF_CORE_READ(mm, arg_start), BPF_CORE_READ(mm, arg_end), ARGUMENT_BYTES);
    at += record->text_bytes;

    // The environment only where it names the peer of a login session or of a request.
    char comm[8] = {};
    BPF_CORE_READ_INTO(&comm, task, real_parent, comm);
    if (lets_others_in(comm)) {
        record->environment_bytes =
            copy_user(record, at, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end), ENVIRONMENT_BYTES);
        at += record->environment_bytes;
    }

    const char *filename = BPF_CORE_READ(bprm, filename), *interp = BPF_CORE_READ(bprm, interp);
    if (filename != interp && at < DATA_BYTES) {
        record->flags |= FLAG_SCRIPT;
        long bytes = bpf_probe_read_kernel_str(&record->data[at & (DATA_BYTES - 1)], 1024, filename);
        if (bytes > 0) {
            record->script_bytes = bytes;
            at += bytes & 2047;
        }
    }
    submit(record, at);
    return 0;
}

// KERNEL 5.5: TP_PROTO(struct task_struct *p); since 6.16 also `bool group_dead`, which `signal->live` tells before.
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
    if (!in_scope())
        return 0;
    u32 tid = pid_of(task);
    bpf_map_delete_elem(&running, &tid); // its number goes to another
    if (task->signal->live.counter != 0)
        return 0;
    struct record *record = begin_for(task, KIND_EXIT);
    if (!record || !record->pid)
        return 0;
    u32 code = task->signal->group_exit_code;
    if (!code && !(task->signal->flags & SIGNAL_GROUP_EXIT))
        code = task->group_leader->exit_code;
    record->value = code;
    submit(record, 0);
    return 0;
}
