// SPDX-License-Identifier: Apache-2.0
//! What was appended to a log while it was being rewritten in place.

/// `now` is `before`, or `after`, or what an interrupted rewriting of one into the other leaves, each with something appended:
/// gives what was appended. `None`: it is something else.
pub(super) fn appended<'n>(now: &'n [u8], before: &[u8], after: &[u8]) -> Option<&'n [u8]> {
    // The longer one first: it may begin with the shorter.
    let (longer, shorter) = if before.len() > after.len() { (before, after) } else { (after, before) };
    // Stopped before it was shortened, it is the shorter one with the rest of the longer behind it.
    let uncut = || now.strip_prefix(shorter)?.strip_prefix(&longer[shorter.len()..]);
    if let Some(rest) = now.strip_prefix(longer).or_else(uncut).or_else(|| now.strip_prefix(shorter)) {
        return Some(rest);
    }
    interrupted(now, before, after).or_else(|| interrupted(now, after, before))
}

/// `now` is one of the two, or what an interrupted rewriting of one into the other leaves, and nothing else.
pub(super) fn is_between(now: &[u8], before: &[u8], after: &[u8]) -> bool {
    let partly = |from: &[u8], to: &[u8]| {
        let done = now.iter().zip(to).take_while(|(one, other)| one == other).count();
        now[done..] == *from.get(done..).unwrap_or_default()
    };
    now == before || now == after || partly(before, after) || partly(after, before)
}

/// As far as it came, `now` is `to`; behind that it still is `from`.
fn interrupted<'n>(now: &'n [u8], from: &[u8], to: &[u8]) -> Option<&'n [u8]> {
    let done = now.iter().zip(to).take_while(|(one, other)| one == other).count();
    if done >= from.len() {
        // Stopped while it grew beyond what was there.
        return (now.len() == done).then_some(&[]);
    }
    now.get(done..)?.strip_prefix(&from[done..])
}

#[cfg(test)]
mod tests {
    use super::{appended, is_between};

    #[test]
    fn every_interruption_of_a_rewriting_is_recognised() {
        for (before, after) in [
            (&b"one\nfour\n"[..], &b"one\ntwo\nthree\nfour\n"[..]),
            (b"one\ntwo\nthree\n", b"one\n"),
            (b"one\ntwo\nthree\n", b"three\n"),
        ] {
            for done in 0..=after.len() {
                let mut now = after[..done].to_vec();
                now.extend_from_slice(before.get(done..).unwrap_or_default());
                // Seen from either side: it is finished, or it is taken back.
                assert!(is_between(&now, before, after) && is_between(&now, after, before), "stopped at {done}");
                assert!(appended(&now, before, after).is_some_and(<[u8]>::is_empty), "stopped at {done}");
                assert!(appended(&now, after, before).is_some_and(<[u8]>::is_empty), "stopped at {done}");
            }
            for state in [before, after] {
                let now = [state, b"five\n"].concat();
                assert_eq!(appended(&now, before, after), Some(&b"five\n"[..]));
                assert!(!is_between(&now, before, after));
            }
        }
        assert_eq!(appended(b"something else", b"one\n", b"two\n"), None);
        for done in 0..=4 {
            assert!(is_between(&b"one\n"[..done], b"", b"one\n"), "emptied, stopped at {done}");
        }
    }
}
