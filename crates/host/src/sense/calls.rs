// SPDX-License-Identifier: Apache-2.0
//! Which system calls are looked at, for 64-bit and 32-bit programs.
//! Source: `arch/x86/entry/syscalls/syscall_64.tbl` and `syscall_32.tbl`, Linux 6.18.

use super::wire::{Config, NR_MAX};

/// As in `file/file.bpf.h`, `enum class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    Open = 1,
    Write = 2,
    Rename = 3,
    Unlink = 4,
    Mkdir = 5,
    Mknod = 6,
    Link = 7,
    Symlink = 8,
    Attributes = 9,
    Xattr = 10,
    Truncate = 11,
    Exec = 12,
    Credentials = 13,
    Inject = 14,
    Uring = 15,
    Accept = 16,
}

use Class::{
    Accept, Attributes, Credentials, Exec, Inject, Link, Mkdir, Mknod, Open, Rename, Symlink, Truncate, Unlink, Uring,
    Write, Xattr,
};

/// Class, x86-64 number, i386 number (0: has none, or is counted with another).
const CALLS: [(Class, u16, u16); 83] = [
    (Write, 1, 4),           // write
    (Open, 2, 5),            // open
    (Write, 9, 192),         // mmap, mmap2
    (Write, 16, 54),         // ioctl
    (Write, 18, 181),        // pwrite64
    (Write, 20, 146),        // writev
    (Write, 40, 187),        // sendfile
    (Write, 40, 239),        // sendfile64
    (Accept, 43, 0),         // accept (32-bit programs: by socketcall, which is not looked at)
    (Mknod, 49, 361),        // bind: a socket's name
    (Exec, 59, 11),          // execve
    (Truncate, 76, 92),      // truncate
    (Truncate, 76, 193),     // truncate64
    (Write, 77, 93),         // ftruncate
    (Write, 77, 194),        // ftruncate64
    (Rename, 82, 38),        // rename
    (Mkdir, 83, 39),         // mkdir
    (Unlink, 84, 40),        // rmdir
    (Open, 85, 8),           // creat
    (Link, 86, 9),           // link
    (Unlink, 87, 10),        // unlink
    (Symlink, 88, 83),       // symlink
    (Attributes, 90, 15),    // chmod
    (Attributes, 91, 94),    // fchmod
    (Attributes, 92, 182),   // chown
    (Attributes, 92, 212),   // chown32
    (Attributes, 93, 95),    // fchown
    (Attributes, 93, 207),   // fchown32
    (Attributes, 94, 16),    // lchown
    (Attributes, 94, 198),   // lchown32
    (Inject, 101, 26),       // ptrace
    (Credentials, 105, 23),  // setuid
    (Credentials, 105, 213), // setuid32
    (Credentials, 106, 46),  // setgid
    (Credentials, 106, 214), // setgid32
    (Credentials, 113, 70),  // setreuid
    (Credentials, 113, 203), // setreuid32
    (Credentials, 114, 71),  // setregid
    (Credentials, 114, 204), // setregid32
    (Credentials, 117, 164), // setresuid
    (Credentials, 117, 208), // setresuid32
    (Credentials, 119, 170), // setresgid
    (Credentials, 119, 210), // setresgid32
    (Credentials, 122, 138), // setfsuid
    (Credentials, 122, 215), // setfsuid32
    (Credentials, 123, 139), // setfsgid
    (Credentials, 123, 216), // setfsgid32
    (Attributes, 132, 30),   // utime
    (Mknod, 133, 14),        // mknod
    (Xattr, 188, 226),       // setxattr
    (Xattr, 189, 227),       // lsetxattr
    (Xattr, 190, 228),       // fsetxattr
    (Xattr, 197, 235),       // removexattr
    (Xattr, 198, 236),       // lremovexattr
    (Xattr, 199, 237),       // fremovexattr
    (Attributes, 235, 271),  // utimes
    (Open, 257, 295),        // openat
    (Mkdir, 258, 296),       // mkdirat
    (Mknod, 259, 297),       // mknodat
    (Attributes, 260, 298),  // fchownat
    (Attributes, 261, 299),  // futimesat
    (Unlink, 263, 301),      // unlinkat
    (Rename, 264, 302),      // renameat
    (Link, 265, 303),        // linkat
    (Symlink, 266, 304),     // symlinkat
    (Attributes, 268, 306),  // fchmodat
    (Write, 275, 313),       // splice
    (Attributes, 280, 320),  // utimensat
    (Attributes, 280, 412),  // utimensat_time64
    (Write, 285, 324),       // fallocate
    (Accept, 288, 364),      // accept4
    (Write, 296, 334),       // pwritev
    (Inject, 311, 348),      // process_vm_writev
    (Rename, 316, 353),      // renameat2
    (Exec, 322, 358),        // execveat
    (Write, 326, 377),       // copy_file_range
    (Write, 328, 379),       // pwritev2
    (Uring, 426, 426),       // io_uring_enter
    (Open, 437, 437),        // openat2
    (Attributes, 452, 452),  // fchmodat2
    (Xattr, 463, 463),       // setxattrat
    (Xattr, 466, 466),       // removexattrat
    (Attributes, 469, 469),  // file_setattr
];

/// Puts the tables in place.
pub(super) fn fill(config: &mut Config) {
    for (class, wide, narrow) in CALLS {
        config.classes[usize::from(wide) % NR_MAX] = class as u8;
        config.classes_32[usize::from(narrow) % NR_MAX] = class as u8;
        config.numbers_32[usize::from(narrow) % NR_MAX] = wide;
    }
    config.classes_32[0] = 0;
}

/// The class of an x86-64 system call.
#[must_use]
pub(super) fn class_of(nr: u32) -> Option<Class> {
    CALLS.iter().find(|(_, wide, _)| u32::from(*wide) == nr).map(|(class, ..)| *class)
}

/// The class with this number.
#[must_use]
pub(super) fn class(number: u16) -> Option<Class> {
    CALLS.iter().map(|(class, ..)| *class).find(|class| *class as u16 == number)
}

/// A call that cuts a file off by its path: only `FAN_MODIFY` has its name.
pub(super) fn is_truncation(number: u16) -> bool {
    number == Truncate as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_call() {
        for number in 1..=16 {
            assert!(class(number).is_some_and(|class| class as u16 == number), "class {number}");
        }
        assert_eq!(class_of(257), Some(Class::Open));
        assert_eq!(class_of(0), None);
    }
}
