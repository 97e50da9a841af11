// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The kernel's side of all sensors: a constant amount of work an event, a counter for every record that finds no room.
#include "process/process.bpf.h"
#include "file/file.bpf.h"
#include "session/session.bpf.h"

char LICENSE[] SEC("license") = "GPL";
