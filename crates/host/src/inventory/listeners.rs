// SPDX-License-Identifier: Apache-2.0
//! Sockets that wait for others, in the network namespace of the scope's first process, and whose they are.
//!
//! UDP sockets above [`CLIENT_PORT_MIN`] are left out: clients bind them for one question.

use super::below::Below;
use super::{Error, Items, Result, lines, state, text, words};
use crate::scope::Scope;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use thymus_engine::golden::{ITEMS_MAX, Item, Section};

/// LIMIT: bytes of one table of `/proc/PID/net`.
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// LIMIT: processes and descriptors looked at for owners.
const PROCESSES_MAX: usize = 16_384;
const DESCRIPTORS_MAX: usize = 262_144;
/// First of the ports that the kernel gives to clients (`net.ipv4.ip_local_port_range`).
const CLIENT_PORT_MIN: u16 = 32_768;

pub(super) fn read(below: &Below<'_>, scope: &Scope, owners: &mut BTreeMap<Item, u32>) -> Result<Items> {
    let leader = match (scope.is_whole_host(), scope.leader()) {
        (true, _) => "self".to_owned(),
        (false, Some(leader)) => leader.to_string(),
        (false, None) => return Err(Error::Missing("the scope has no first process, so no network")),
    };
    // By inode, since a table may name one address for several sockets.
    let mut sockets: BTreeMap<u64, String> = BTreeMap::new();
    for (name, kind, version) in [("tcp", "tcp", 4), ("tcp6", "tcp", 6), ("udp", "udp", 4), ("udp6", "udp", 6)] {
        below.in_time()?;
        let path = format!("/proc/{leader}/net/{name}");
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(TABLE_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > TABLE_BYTES_MAX => return Err(Error::Large { path, bytes: TABLE_BYTES_MAX }),
            Ok(_) => {}
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && version == 6 => continue,
            Err(source) => return Err(Error::File { path, source }),
        }
        sockets.extend(parse(&bytes, kind, version).into_iter().take(ITEMS_MAX));
    }
    let mut found: Items = sockets.values().map(|name| (name.clone(), state([("program", String::new())]))).collect();
    let mut looked = 0;
    for pid in pids(scope) {
        below.in_time()?;
        let directory = PathBuf::from(format!("/proc/{pid}/fd"));
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            looked += 1;
            if looked > DESCRIPTORS_MAX {
                return Err(Error::Missing("the processes have too many descriptors to find the owners of sockets"));
            }
            let Some(name) = inode(&entry.path()).and_then(|inode| sockets.get(&inode)) else { continue };
            let item = Item::new(Section::Listeners, name.as_str());
            // The first of several processes is the one that the others came from.
            if owners.get(&item).is_none_or(|owner| pid < *owner) {
                owners.insert(item, pid);
                found.insert(name.clone(), state([("program", program(pid))]));
            }
        }
    }
    Ok(found)
}

fn inode(descriptor: &Path) -> Option<u64> {
    let target = std::fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn program(pid: u32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let bytes = link.as_os_str().as_encoded_bytes();
    // An upgrade took the file away below a program that runs on.
    text(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes))
}

fn pids(scope: &Scope) -> Vec<u32> {
    let mut pids: Vec<u32> = Vec::new();
    if scope.is_whole_host() {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.extend(entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
    } else {
        let mut pending = vec![scope.cgroup_path().to_owned()];
        while let Some(directory) = pending.pop().filter(|_| pids.len() < PROCESSES_MAX) {
            let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
    }
    pids.sort_unstable();
    pids.truncate(PROCESSES_MAX);
    pids
}

/// Inode and name of each socket that waits, of a table as proc(5) shows it.
pub(super) fn parse(table: &[u8], kind: &str, version: u8) -> BTreeMap<u64, String> {
    let socket = |line: &[u8]| {
        let fields: Vec<&[u8]> = words(line).take(10).collect();
        let [_, local, remote, status, _, _, _, _, _, inode] = fields[..] else { return None };
        let (local, remote) = (address(local, version)?, address(remote, version)?);
        let waits = match kind {
            "tcp" => status == b"0A",
            _ => remote.port() == 0 && local.port() < CLIENT_PORT_MIN,
        };
        let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
        (waits && local.port() != 0).then(|| (inode, format!("{kind} {local}")))
    };
    lines(table).filter_map(socket).take(ITEMS_MAX).collect()
}

/// `0100007F:0050`: words of the address in the machine's byte order, the port as a number.
fn address(text: &[u8], version: u8) -> Option<SocketAddr> {
    let (address, port) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address: IpAddr = match (version, address.len()) {
        (4, 8) => Ipv4Addr::from(word(0)?).into(),
        (6, 32) => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}
