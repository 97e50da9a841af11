// SPDX-License-Identifier: Apache-2.0
//! What a process has attached to the kernel, as `/proc/PID/fdinfo` tells: nothing of it may deny or change anything but
//! in the twin.
//!
//! Sources: `fs/notify/fdinfo.c`, `kernel/bpf/syscall.c`, `fanotify_mark(2)` of Linux.

use crate::twin::Twin;
use crate::{Doing, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `FAN_OPEN_PERM`, `FAN_ACCESS_PERM`, `FAN_OPEN_EXEC_PERM`, `FAN_PRE_ACCESS`: whoever is asked can deny.
const PERMISSION: u64 = 0x0001_0000 | 0x0002_0000 | 0x0004_0000 | 0x0010_0000;
/// Kinds of link that only look. `tracing` links look too, if they run at entry, exit or over a list.
const LOOKING: [&str; 3] = ["iter", "raw_tracepoint", "perf_event"];
/// `BPF_TRACE_RAW_TP`, `BPF_TRACE_FENTRY`, `BPF_TRACE_FEXIT`, `BPF_TRACE_ITER`; not `BPF_MODIFY_RETURN`, not `BPF_LSM_MAC`.
const LOOKING_TYPES: [u32; 4] = [23, 24, 25, 28];

/// Whatever of process `pid` can deny or change something outside of the twin, in words. Empty is well.
pub(crate) fn elsewhere(pid: u32, twin: &Twin) -> Result<Vec<String>> {
    let devices = own_devices(twin)?;
    let directory = PathBuf::from(format!("/proc/{pid}/fdinfo"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&directory).doing("list", &directory)? {
        let entry = entry.doing("list", &directory)?;
        // A descriptor that was closed meanwhile holds nothing.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        found.extend(violations(&text, &devices));
    }
    Ok(found)
}

/// Devices of the file systems that only the twin has mounted.
fn own_devices(twin: &Twin) -> Result<BTreeSet<(u64, u64)>> {
    let of = |path: &str, of_twin: &dyn Fn(&str) -> bool| -> Result<BTreeSet<(u64, u64)>> {
        let table = std::fs::read_to_string(path).doing("read", path)?;
        let mounts = table.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let (major, minor) = fields.next()?.split_once(':')?;
            fields.nth(1).filter(|mount| of_twin(mount))?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Ok(mounts.collect())
    };
    let below = twin.directory().to_string_lossy().into_owned();
    let machine = of("/proc/self/mountinfo", &|mount| !mount.starts_with(&below))?;
    let inside = of(&format!("/proc/{}/mountinfo", twin.leader()), &|_| true)?;
    Ok(inside.difference(&machine).copied().collect())
}

/// One descriptor's `fdinfo`.
fn violations(text: &str, own: &BTreeSet<(u64, u64)>) -> Vec<String> {
    let mut found = Vec::new();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    for line in text.lines().filter(|line| line.starts_with("fanotify ")) {
        let number = |name: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
            word.and_then(|word| u64::from_str_radix(word, 16).ok())
        };
        if number("mask").unwrap_or(0) & PERMISSION == 0 {
            continue;
        }
        // `dev_t` of the kernel: twelve bits of major, twenty of minor.
        let device = number("sdev").map(|device| (device >> 20, device & 0xf_ffff));
        if device.is_none_or(|device| !own.contains(&device)) {
            found.push(format!("a permission mark that is not on the twin's: {line}"));
        }
    }
    if let Some(kind) = field("link_type:") {
        let looks = field("attach_type:").and_then(|kind| kind.parse().ok());
        let tracing = kind == "tracing" && looks.is_some_and(|kind: u32| LOOKING_TYPES.contains(&kind));
        if !LOOKING.contains(&kind) && !tracing {
            found.push(format!("a kernel program that does more than look: {kind}, {looks:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_deny_outside_of_the_twin_is_named() {
        let own = [(7, 2)].into();
        let mark = |device: &str, mask: &str| format!("fanotify sdev:{device} mflags:0 mask:{mask} ignored_mask:0\n");
        assert!(violations(&mark("700002", "30000"), &own).is_empty());
        assert!(violations(&mark("700003", "8000002"), &own).is_empty());
        assert_eq!(violations(&mark("700003", "30000"), &own).len(), 1);
        assert_eq!(violations("fanotify mnt_id:1f mflags:0 mask:100000 ignored_mask:0\n", &own).len(), 1);
        assert_eq!(violations("link_type:\ttracing\nattach_type:\t26\n", &own).len(), 1);
        assert_eq!(violations("link_type:\tcgroup\n", &own).len(), 1);
        assert!(violations("link_type:\traw_tracepoint\n", &own).is_empty());
        assert!(violations("link_type:\ttracing\nattach_type:\t24\n", &own).is_empty());
    }
}
