// SPDX-License-Identifier: Apache-2.0
//! What was appended to a log while it was being rewritten in place.

/// `now` is `before`, or `after`, or what an interrupted rewriting of one into the other leaves, each with something appended:
/// gives what was appended. `None`: it is something else.
pub(super) fn appended<'n>(now: &'n [u8], before: &[u8], after: &[u8]) -> Option<&'n [u8]> {
    // The longer one first: it may begin with the shorter.
    let (longer, shorter) = if before.len() > after.len() { (before, after) } else { (after, before) };
    if let Some(rest) = now.strip_prefix(longer).or_else(|| now.strip_prefix(shorter)) {
        return Some(rest);
    }
    interrupted(now, before, after).or_else(|| interrupted(now, after, before))
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
    use super::appended;

    #[test]
    fn every_interruption_of_a_rewriting_is_recognised() {
        for (before, after) in
            [(&b"one\nfour\n"[..], &b"one\ntwo\nthree\nfour\n"[..]), (b"one\ntwo\nthree\n", b"one\n")]
        {
            for done in 0..=after.len() {
                let mut now = after[..done].to_vec();
                now.extend_from_slice(before.get(done..).unwrap_or_default());
                // Seen from either side: it is finished, or it is taken back.
                assert!(appended(&now, before, after).is_some_and(<[u8]>::is_empty), "stopped at {done}");
                assert!(appended(&now, after, before).is_some_and(<[u8]>::is_empty), "stopped at {done}");
            }
            for state in [before, after] {
                let now = [state, b"five\n"].concat();
                assert_eq!(appended(&now, before, after), Some(&b"five\n"[..]));
            }
        }
        assert_eq!(appended(b"something else", b"one\n", b"two\n"), None);
    }
}
