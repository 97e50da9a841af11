// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Sessions and units: cgroups as they are made.
#pragma once
#include "../record.h"

// KERNEL 5.5: TP_PROTO(struct cgroup *cgrp, const char *path)
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
    if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0)
        return 0; // a version 1 hierarchy
    struct record *record = begin_for((struct task_struct *)bpf_get_current_task_btf(), KIND_CGROUP);
    if (!record)
        return 0;
    record->cgroup = BPF_CORE_READ(cgroup, kn, id);
    long bytes = bpf_probe_read_kernel_str(record->data, 2048, path);
    if (bytes <= 0)
        return 0;
    record->text_bytes = bytes;
    submit(record, bytes & 4095);
    return 0;
}
