// SPDX-License-Identifier: Apache-2.0
//! Proof, before any attack: root in a twin cannot change the machine. Each check is tried in a real twin, by its root.

use crate::base::Disk;
use crate::twin::{Confinement, Twin};
use crate::{Doing, Error, Result};
use std::sync::OnceLock;

/// A twin that was proven in this process; nothing else lets an attack run.
#[derive(Clone, Copy, Debug)]
pub struct Proven(());

/// What root in the twin tries. Each line of its output is `NAME yes` when it could, else `NAME no`.
const TRIES: &str = r#"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name yes"; else echo "$name no"; fi; }
mount -o remount,rw /proc/sys 2>/dev/null
try core_pattern sh -c 'echo "|/x" >/proc/sys/kernel/core_pattern'
try sysrq-setting sh -c 'echo 1 >/proc/sys/kernel/sysrq'
try sysrq-trigger sh -c 'echo h >/proc/sysrq-trigger'
try modprobe-path sh -c 'echo /x >/proc/sys/kernel/modprobe'
try swappiness sh -c 'echo 61 >/proc/sys/vm/swappiness'
try clock date -s 2001-01-01
try device-node mknod /root/disk b 254 0
try char-node mknod /root/kmsg c 1 11
try memory sh -c 'head -c 1 /dev/mem'
try kernel-log dmesg
try module sh -c 'printf x >/root/x.ko; insmod /root/x.ko || modprobe loop'
try loop-device losetup -f
try debugfs mount -t debugfs none /mnt
try bpffs mount -t bpf none /mnt
try host-disk sh -c 'ls /dev | grep -qE "^(vd|sd|nvme|loop|dm-)"'
try route sh -c 'ip route | grep -q .'
try link sh -c 'ip -o link | grep -qv " lo:"'
try connect timeout 2 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'
try machine-processes grep -aq 'systemd-nspaw[n]' $(ls -d /proc/[0-9]*/cmdline)
try machine-files test -e "$OUTSIDE"
try oom-score sh -c 'echo -900 >/proc/self/oom_score_adj'
try rlimit prlimit --nofile=9999999:9999999 true
mkdir -p /root/c && for h in pids memory devices freezer; do mount -t cgroup -o $h none /root/c 2>/dev/null && break; done
try cgroup-make mkdir /root/c/x
try cgroup-limit sh -c 'for f in pids.max memory.limit_in_bytes; do test ! -e /root/c/$f || echo 99999 >/root/c/$f || exit 1; done; test -e /root/c/pids.max'
try cgroup-join sh -c 'echo $$ >/root/c/cgroup.procs'
umount /root/c 2>/dev/null
try nice sh -c 'nice -n -20 sh -c "test \$(nice) -lt 0"'
umount /mnt 2>/dev/null
true
"#;

/// What may be possible: it changes the twin only, and the kernel's answer differs between versions.
const HARMLESS: [&str; 3] = ["nice", "rlimit", "oom-score"];

/// Boots a twin and proves it, once in the life of this process.
pub fn prove(disk: &Disk) -> Result<Proven> {
    static PROVEN: OnceLock<Proven> = OnceLock::new();
    if let Some(proven) = PROVEN.get() {
        return Ok(*proven);
    }
    let settings = ["kernel/core_pattern", "kernel/sysrq", "kernel/modprobe", "vm/swappiness", "kernel/hostname"];
    let read = || -> Result<Vec<String>> {
        settings
            .iter()
            .map(|name| {
                let path = format!("/proc/sys/{name}");
                // A kernel without this setting has nothing to protect.
                if std::path::Path::new(&path).exists() {
                    std::fs::read_to_string(&path).doing("read", path)
                } else {
                    Ok(String::new())
                }
            })
            .collect()
    };
    let before = read()?;
    let mut twin = Twin::new(disk, "proof")?;
    let secret = twin.directory().join("outside");
    std::fs::write(&secret, "of the machine").doing("write", &secret)?;
    twin.boot(Confinement::UserNamespace)?;
    let script = format!("OUTSIDE={}\n{TRIES}", secret.display());
    let said = twin.inside(&["systemd-run", "--quiet", "--pipe", "--wait", "/bin/bash", "-c", &script])?;
    let results: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once(' ')).collect();
    let tries = TRIES.lines().filter(|line| line.starts_with("try ")).count();
    if results.len() != tries {
        return Err(Error::NotHardened { what: format!("{} of {tries} tries gave an answer: {said}", results.len()) });
    }
    let could: Vec<&str> = results
        .iter()
        .filter(|(name, answer)| *answer != "no" && !HARMLESS.contains(name))
        .map(|(name, _)| *name)
        .collect();
    if !could.is_empty() {
        return Err(Error::NotHardened { what: format!("root inside could do: {}", could.join(", ")) });
    }
    if read()? != before {
        return Err(Error::NotHardened { what: "a kernel setting of the machine changed".to_owned() });
    }
    if std::fs::read_to_string(&secret).doing("read", &secret)? != "of the machine" {
        return Err(Error::NotHardened { what: "a file of the machine changed".to_owned() });
    }
    twin.halt()?;
    Ok(*PROVEN.get_or_init(|| Proven(())))
}
