// SPDX-License-Identifier: Apache-2.0
//! The kernel's bytes, and nothing but checked parses of them: our own ring-buffer records and fanotify's events.
//!
//! Sources: `record.h` beside this file; fanotify(7) for the FID records; open_by_handle_at(2).

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of the system call tables, as in `record.h`.
pub const NR_MAX: usize = 512;

/// As read by the kernel programs, `struct config`.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    pub scope_cgroup: u64,
    pub agent_pid: u32,
    pub agent_pid_namespace: u32,
    pub classes: [u8; NR_MAX],
    pub classes_32: [u8; NR_MAX],
    pub numbers_32: [u16; NR_MAX],
}
const _: () = assert!(size_of::<Config>() == 2_064);

/// As written by the kernel programs, the head of `struct record`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RecordHead {
    /// Boot clock, nanoseconds.
    pub time: u64,
    /// When the system call began; `time` when it is not about a call.
    pub enter: u64,
    pub start: u64,
    pub cgroup: u64,
    pub parent_start: u64,
    pub other_start: u64,
    pub device: u64,
    pub inode: u64,
    pub base_device: u64,
    pub kind: u32,
    pub nr: u32,
    pub pid: u32,
    pub tid: u32,
    pub parent_pid: u32,
    pub other_pid: u32,
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub login_uid: u32,
    pub generation: u32,
    pub mode: u32,
    pub flags: u32,
    pub value: u32,
    pub path_bytes: u16,
    pub base_bytes: u16,
    pub text_bytes: u16,
    pub environment_bytes: u16,
    pub script_bytes: u16,
    pub class: u16,
    pub reserved: [u16; 2],
}
const _: () = assert!(size_of::<RecordHead>() == 144);
const _: () = assert!(core::mem::offset_of!(RecordHead, kind) == 72);
const _: () = assert!(core::mem::offset_of!(RecordHead, path_bytes) == 128);

/// As written by the iterator `members`, `struct member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    /// Boot clock, nanoseconds.
    pub start: u64,
    pub pid: u32,
    pub parent: u32,
    /// 0 runs, 1 stopped or traced, 2 zombie.
    pub life: u32,
    /// 1: a kernel thread.
    pub kernel: u32,
}
const _: () = assert!(size_of::<Member>() == 24);

/// As written by `network/network.bpf.h`, `struct flow`: the text of a [`KIND_FLOW`] record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Bytes of content, when it is over.
    pub sent: u64,
    pub received: u64,
    pub local_port: u16,
    /// 0: a listener.
    pub remote_port: u16,
    /// 4 or 6.
    pub family: u8,
    pub inbound: u8,
    /// 1: it was there before the agent looked.
    pub before: u8,
    pub reserved: u8,
}
const _: () = assert!(size_of::<Flow>() == 56);

pub const KIND_FORK: u32 = 1;
pub const KIND_EXEC: u32 = 2;
pub const KIND_EXIT: u32 = 3;
pub const KIND_CREDENTIALS: u32 = 4;
pub const KIND_INJECT: u32 = 5;
pub const KIND_CALL: u32 = 6;
pub const KIND_OPEN: u32 = 7;
pub const KIND_WRITE: u32 = 8;
pub const KIND_CGROUP: u32 = 9;
pub const KIND_URING: u32 = 10;
pub const KIND_TASK: u32 = 11;
pub const KIND_FLOW: u32 = 12;
pub const KIND_READ: u32 = 13;

pub const FLAG_STDIO: u32 = 7;
pub const FLAG_FILELESS: u32 = 8;
pub const FLAG_SCRIPT: u32 = 16;
pub const FLAG_CREATED: u32 = 32;
pub const FLAG_PATH_CUT: u32 = 64;

/// One record and its five strings.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub head: RecordHead,
    /// Names from the file up to the root of its file system, each ended by NUL.
    pub path: &'a [u8],
    /// The same for the directory that relative names start from.
    pub base: &'a [u8],
    /// argv, a cgroup's path, or a path argument.
    pub text: &'a [u8],
    pub environment: &'a [u8],
    pub script: &'a [u8],
}

/// `None`: too short for what it announces.
#[must_use]
pub fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let (head, rest) = RecordHead::read_from_prefix(bytes).ok()?;
    let (path, rest) = rest.split_at_checked(head.path_bytes.into())?;
    let (base, rest) = rest.split_at_checked(head.base_bytes.into())?;
    let (text, rest) = rest.split_at_checked(head.text_bytes.into())?;
    let (environment, rest) = rest.split_at_checked(head.environment_bytes.into())?;
    let (script, _) = rest.split_at_checked(head.script_bytes.into())?;
    Some(Record { head, path, base, text, environment, script })
}

/// The path inside its file system that a walk from a file upwards stands for: `c\0b\0a\0` is `/a/b/c`.
#[must_use]
pub fn walked(names: &[u8]) -> Vec<u8> {
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.rsplit(|byte| *byte == 0) {
        if name != b"/" && !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// What `fuzz/` and the test below call with any bytes.
pub(crate) fn fuzz_record(bytes: &[u8]) {
    if let Some(record) = record(bytes) {
        let parts = [record.path, record.base, record.text, record.environment, record.script];
        assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= bytes.len());
        assert!(walked(record.path).starts_with(b"/"));
    }
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let head =
        RecordHead { kind: KIND_EXEC, pid: 7, path_bytes: 6, base_bytes: 2, text_bytes: 4, ..RecordHead::default() };
    vec![[head.as_bytes(), b"c\0b\0a\0", b"x\0", b"sh\0-"].concat()]
}

pub const FAN_MODIFY: u64 = 0x2;
pub const FAN_ATTRIB: u64 = 0x4;
pub const FAN_CLOSE_WRITE: u64 = 0x8;
pub const FAN_CREATE: u64 = 0x100;
pub const FAN_DELETE: u64 = 0x200;
pub const FAN_Q_OVERFLOW: u64 = 0x4000;
pub const FAN_RENAME: u64 = 0x1000_0000;
pub const FAN_ONDIR: u64 = 0x4000_0000;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Metadata {
    event_len: u32,
    version: u8,
    reserved: u8,
    metadata_len: u16,
    mask: u64,
    fd: i32,
    pid: i32,
}
const _: () = assert!(size_of::<Metadata>() == 24);

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct InfoHead {
    info_type: u8,
    pad: u8,
    len: u16,
    fsid: [u32; 2],
    handle_bytes: u32,
    handle_type: i32,
}
const _: () = assert!(size_of::<InfoHead>() == 20);

/// A file handle as name_to_handle_at(2) makes it. At most [`HANDLE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub kind: i32,
    pub bytes: Box<[u8]>,
}

/// `MAX_HANDLE_SZ` of fcntl.h.
pub const HANDLE_BYTES_MAX: usize = 128;

impl Handle {
    /// Inode and generation, where the file system's format is known: `FILEID_INO32_GEN` (ext4 and most),
    /// tmpfs (generation first), xfs with 64-bit inodes, btrfs. Source: `fs/*/export.c`, `include/linux/exportfs.h`.
    #[must_use]
    pub fn inode(&self, tmpfs: bool) -> Option<(u64, u32)> {
        let word = |at: usize| Some(u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(self.bytes.get(at..at + 8)?.try_into().ok()?));
        match self.kind {
            1 if tmpfs => Some((u64::from(word(4)?) | u64::from(word(8)?) << 32, word(0)?)),
            1 | 2 => Some((word(0)?.into(), word(4)?)),
            0x81 | 0x82 => Some((long(0)?, word(8)?)),
            0x4d..=0x4f => Some((long(0)?, word(16)?)),
            _ => None,
        }
    }
}

/// A directory and a name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub directory: Handle,
    pub name: Box<[u8]>,
}

/// One fanotify event of a group with `FAN_REPORT_DFID_NAME_TARGET | FAN_REPORT_TID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameEvent {
    pub mask: u64,
    /// Thread that caused it, in our pid namespace; 0 when it has no number there.
    pub tid: u32,
    pub object: Option<Handle>,
    pub entry: Option<Entry>,
    pub old: Option<Entry>,
    pub new: Option<Entry>,
}

/// Parses what one read(2) of a fanotify group gave. Stops at the first malformed event; the second value is whether
/// all bytes were understood.
#[must_use]
pub fn name_events(mut bytes: &[u8]) -> (Vec<NameEvent>, bool) {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let Some((event, rest)) = name_event(bytes) else { return (events, false) };
        events.push(event);
        bytes = rest;
    }
    (events, true)
}

fn name_event(bytes: &[u8]) -> Option<(NameEvent, &[u8])> {
    let (metadata, _) = Metadata::read_from_prefix(bytes).ok()?;
    let length = usize::try_from(metadata.event_len).ok()?;
    let head = usize::from(metadata.metadata_len);
    if length < head || head < size_of::<Metadata>() {
        return None;
    }
    let (event, rest) = bytes.split_at_checked(length)?;
    let mut found =
        NameEvent { mask: metadata.mask, tid: u32::try_from(metadata.pid).unwrap_or(0), ..NameEvent::default() };
    let mut infos = &event[head..];
    while infos.len() >= 4 {
        let length = usize::from(u16::from_le_bytes([infos[2], infos[3]]));
        let (info, next) = infos.split_at_checked(length)?;
        if length < 4 {
            return None;
        }
        infos = next;
        let kind = info[0];
        if !matches!(kind, 1 | 2 | 3 | 10 | 12) {
            continue; // pidfd, error and later kinds: not asked for
        }
        let (head, tail) = InfoHead::read_from_prefix(info).ok()?;
        let handle_bytes = usize::try_from(head.handle_bytes).ok()?;
        if handle_bytes > HANDLE_BYTES_MAX {
            return None;
        }
        let (handle, name) = tail.split_at_checked(handle_bytes)?;
        let handle = Handle { kind: head.handle_type, bytes: handle.into() };
        if kind == 1 {
            found.object = Some(handle);
            continue;
        }
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let entry = Some(Entry { directory: handle, name: name.into() });
        match kind {
            2 | 3 => found.entry = entry,
            10 => found.old = entry,
            _ => found.new = entry,
        }
    }
    Some((found, rest))
}

/// What `fuzz/` and the test below call with any bytes.
pub(crate) fn fuzz_name_events(bytes: &[u8]) {
    let (events, _) = name_events(bytes);
    assert!(events.len() <= bytes.len() / size_of::<Metadata>());
    for event in events {
        for handle in event.object.iter().chain(event.entry.iter().map(|entry| &entry.directory)) {
            assert!(handle.bytes.len() <= HANDLE_BYTES_MAX);
            let _ = handle.inode(false).or(handle.inode(true));
        }
    }
}

/// An event as the kernel writes it: kind, handle and name of each of its parts.
fn event(mask: u64, infos: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, handle, name) in infos {
        let handle_bytes = u32::try_from(handle.len()).unwrap_or(0).to_le_bytes();
        let mut info = [&[*kind, 0, 0, 0][..], &[0; 8], &handle_bytes, &1i32.to_le_bytes(), *handle].concat();
        if *kind != 1 {
            info.extend_from_slice(name);
            info.push(0);
        }
        info.resize(info.len().next_multiple_of(4), 0);
        let length = u16::try_from(info.len()).unwrap_or(0).to_le_bytes();
        info[2..4].copy_from_slice(&length);
        body.extend_from_slice(&info);
    }
    let event_len = u32::try_from(size_of::<Metadata>() + body.len()).unwrap_or(0);
    let metadata = Metadata { event_len, version: 3, reserved: 0, metadata_len: 24, mask, fd: -1, pid: 7 };
    [metadata.as_bytes(), &body].concat()
}

pub(crate) fn name_event_seeds() -> Vec<Vec<u8>> {
    let created = event(FAN_CREATE, &[(2, &[1; 8], b"name"), (1, &[2; 8], b"")]);
    let renamed = event(FAN_RENAME, &[(10, &[1; 8], b"a\nb"), (12, &[2; 8], b"\xff"), (1, &[3; 8], b"")]);
    vec![[created.clone(), renamed].concat(), created]
}

/// The handle of an open file, `O_PATH` included: the same inode can be reached by it from another mount.
pub fn handle_of(file: BorrowedFd<'_>) -> io::Result<Handle> {
    #[repr(C, align(8))]
    struct Buffer {
        handle_bytes: u32,
        handle_type: i32,
        bytes: [u8; HANDLE_BYTES_MAX],
    }
    let room = u32::try_from(HANDLE_BYTES_MAX).map_err(io::Error::other)?;
    let mut buffer = Buffer { handle_bytes: room, handle_type: 0, bytes: [0; HANDLE_BYTES_MAX] };
    let mut mount = 0;
    // SAFETY: the callee reads an empty C string (AT_EMPTY_PATH: the descriptor itself is meant), and writes a
    // `struct file_handle` of at most `handle_bytes` bytes and one int: `Buffer` has that layout and room, both live for
    // the whole call, and the descriptor is borrowed, so it is open.
    let done = unsafe {
        let handle = (&raw mut buffer).cast();
        libc::name_to_handle_at(file.as_raw_fd(), c"".as_ptr(), handle, &raw mut mount, libc::AT_EMPTY_PATH)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let length = usize::try_from(buffer.handle_bytes).map_err(io::Error::other)?;
    let bytes = buffer.bytes.get(..length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Handle { kind: buffer.handle_type, bytes: bytes.into() })
}

/// Opens what a handle names, as a place only (`O_PATH`). `mount` is any real descriptor on the same file system.
pub fn open_handle(mount: BorrowedFd<'_>, handle: &Handle) -> io::Result<OwnedFd> {
    #[repr(C, align(8))]
    struct Buffer {
        handle_bytes: u32,
        handle_type: i32,
        bytes: [u8; HANDLE_BYTES_MAX],
    }
    let mut buffer = Buffer { handle_bytes: 0, handle_type: handle.kind, bytes: [0; HANDLE_BYTES_MAX] };
    buffer
        .bytes
        .get_mut(..handle.bytes.len())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?
        .copy_from_slice(&handle.bytes);
    buffer.handle_bytes = u32::try_from(handle.bytes.len()).map_err(io::Error::other)?;
    // SAFETY: the callee reads a `struct file_handle` (two 32-bit fields, then `handle_bytes` bytes): `Buffer` has
    // that layout and room for 128 bytes, and lives for the whole call. The descriptor is borrowed, so it is open.
    let fd =
        unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut buffer).cast(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_record_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            fuzz_record(&bytes);
        }

        #[test]
        fn no_event_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            fuzz_name_events(&bytes);
        }

        #[test]
        fn no_damaged_event_makes_the_parser_panic(at in 0usize..120, value: u8, cut in 0usize..120) {
            let mut bytes = event(FAN_CREATE, &[(2, &[1; 8], b"name"), (1, &[2; 8], b"")]);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut % bytes.len());
            fuzz_name_events(&bytes);
        }
    }

    #[test]
    fn a_rename_has_both_names_and_its_object() {
        let bytes = event(FAN_RENAME, &[(10, &[1; 8], b"a\nb"), (12, &[2; 8], b"\xff"), (1, &[3; 8], b"")]);
        let (events, whole) = name_events(&bytes);
        assert!(whole);
        assert_eq!(&*events[0].old.as_ref().unwrap().name, b"a\nb");
        assert_eq!(&*events[0].new.as_ref().unwrap().name, b"\xff");
        assert_eq!(events[0].object.as_ref().unwrap().inode(false), Some((0x0303_0303, 0x0303_0303)));
        assert_eq!(events[0].tid, 7);
    }

    #[test]
    fn a_walk_upwards_is_a_path_downwards() {
        assert_eq!(walked(b"c\0b\0a\0"), b"/a/b/c");
        assert_eq!(walked(b"/\0"), b"/");
        assert_eq!(walked(b"memfd:x\0"), b"/memfd:x");
    }
}
