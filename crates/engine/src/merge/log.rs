// SPDX-License-Identifier: Apache-2.0
//! Append-only logs: put back what was cut, keep what came after.
//!
//! A log grows only at its end, so whatever stands before its last old entry and is not an old entry was forged.
//! Source of the record sizes: `utmp(5)`, glibc on 64-bit Linux.

use super::Merged;
use super::diff::{Interner, matches};

/// LIMIT: bytes of a log that are compared entry by entry; a longer one is only mended when it was cut at one end.
pub const LOG_BYTES_MAX: usize = 64 << 20;
/// `struct utmp`: wtmp, btmp, utmp.
const UTMP_BYTES: usize = 384;
/// `struct lastlog`: a record per uid, at a fixed place.
const LASTLOG_BYTES: usize = 292;

/// What an append-only log should be, told its states one after the other: what the attack cut out is in it, and what came
/// by others between two cuts.
#[derive(Clone, Debug)]
pub struct Log {
    content: Vec<u8>,
    /// The state that came before the next one, as it was found.
    last: Vec<u8>,
    kept: u32,
    removed: u32,
}

impl Log {
    /// `before`: the last state that the attack had not touched.
    #[must_use]
    pub fn new(before: Vec<u8>) -> Self {
        Self { last: before.clone(), content: before, kept: 0, removed: 0 }
    }

    /// What was there once the attack had cut it. Others may have written before it was read; where it cannot be told what
    /// they did, it is the attack's.
    pub fn cut(&mut self, state: Vec<u8>) {
        if let Merged::Merged { content: Some(content), kept, removed } = append_only(&self.content, &state) {
            self.take(content, kept, removed);
        }
        self.last = state;
    }

    /// A state that others have written to since. `Err`: what of it is theirs cannot be told; nothing was taken from it.
    pub fn grew(&mut self, state: Vec<u8>) -> Result<(), Merged> {
        let lines =
            |came: &[u8]| count(came.iter().filter(|byte| **byte == b'\n').count().max(usize::from(!came.is_empty())));
        if let Some(came) = state.strip_prefix(self.content.as_slice()) {
            // All of it is there already: it was put back before, and whoever did so may not have lived to tell.
            self.kept = self.kept.saturating_add(lines(came));
            self.content.clone_from(&state);
        } else if let Some(came) = state.strip_prefix(self.last.as_slice()) {
            // The same line may have been logged before the cut and after it: only the place tells them apart.
            self.kept = self.kept.saturating_add(lines(came));
            append(&mut self.content, came);
        } else {
            match append_only(&self.content, &state) {
                Merged::Merged { content: Some(content), kept, removed } => self.take(content, kept, removed),
                other => return Err(other),
            }
        }
        self.last = state;
        Ok(())
    }

    fn take(&mut self, content: Vec<u8>, kept: u32, removed: u32) {
        self.content = content;
        self.kept = self.kept.saturating_add(kept);
        self.removed = self.removed.saturating_add(removed);
    }

    #[must_use]
    pub fn mended(self) -> Merged {
        merged(self.content, self.kept, self.removed)
    }
}

/// What came after, on a line of its own.
fn append(content: &mut Vec<u8>, came: &[u8]) {
    let is_text = content.last().is_some_and(|byte| *byte != b'\n') && !content.contains(&0);
    if is_text && !came.is_empty() {
        content.push(b'\n');
    }
    content.extend_from_slice(came);
}

/// An append-only log: `before` is its last state that the attack had not touched, `now` what is there.
/// Puts back what was cut out of `before`, wherever that was, and keeps everything that came after.
/// Text goes by lines, `utmp(5)` files by records. A log that was text stays text: what a power cut leaves at its end
/// (a run of NUL, on some file systems) is an entry like any other.
#[must_use]
pub fn append_only(before: &[u8], now: &[u8]) -> Merged {
    if now.starts_with(before) {
        return merged(now.to_vec(), 0, 0);
    }
    if before.starts_with(now) {
        return merged(before.to_vec(), 0, 1);
    }
    if before.len().max(now.len()) > LOG_BYTES_MAX {
        return Merged::Conflict(format!("too large to compare: expected at most {LOG_BYTES_MAX} bytes"));
    }
    if before.contains(&0) {
        return binary(before, now);
    }
    entries(before.split_inclusive(|byte| *byte == b'\n'), now.split_inclusive(|byte| *byte == b'\n'))
}

fn binary(before: &[u8], now: &[u8]) -> Merged {
    let whole = |size: usize| before.len().is_multiple_of(size) && now.len().is_multiple_of(size);
    if whole(UTMP_BYTES) && [before, now].iter().all(|bytes| bytes.chunks_exact(UTMP_BYTES).all(is_utmp)) {
        return entries(before.chunks_exact(UTMP_BYTES), now.chunks_exact(UTMP_BYTES));
    }
    if whole(LASTLOG_BYTES) {
        return last_logins(before, now);
    }
    Merged::Binary
}

/// `ut_type` is 0 to 9 and its two bytes of padding are 0.
fn is_utmp(record: &[u8]) -> bool {
    record[0] <= 9 && record[1..4] == [0, 0, 0]
}

fn entries<'a>(before: impl Iterator<Item = &'a [u8]>, now: impl Iterator<Item = &'a [u8]>) -> Merged {
    let mut numbers = Interner::default();
    let old: Vec<&[u8]> = before.collect();
    let new: Vec<&[u8]> = now.collect();
    let old_numbers: Vec<u32> = old.iter().map(|entry| numbers.number(entry)).collect();
    let new_numbers: Vec<u32> = new.iter().map(|entry| numbers.number(entry)).collect();
    let same = matches(&old_numbers, &new_numbers);
    let tail = same.last().map_or(0, |(_, at)| at + 1);
    // Between old entries nothing can have come by itself. It is forged only if old entries clearly frame it: a
    // coincidence (one old line that was logged again after a truncation) must not cost others' lines.
    let forged = tail - same.len();
    if forged > 0 && same.len() <= forged {
        return Merged::Conflict("old and new entries are mixed: cannot tell what was forged".to_owned());
    }
    let mut content = old.concat();
    append(&mut content, &new[tail..].concat());
    merged(content, count(new.len() - tail), count(old.len() - same.len() + forged))
}

/// Records at fixed places: a later login stays, anything else is as before.
fn last_logins(before: &[u8], now: &[u8]) -> Merged {
    let time = |record: &[u8]| record.first_chunk::<4>().map_or(0, |bytes| i32::from_le_bytes(*bytes));
    let empty = [0u8; LASTLOG_BYTES];
    let (mut content, mut kept, mut removed) = (Vec::with_capacity(before.len().max(now.len())), 0, 0);
    for index in 0..before.len().max(now.len()) / LASTLOG_BYTES {
        let record = |bytes: &[u8]| bytes.chunks_exact(LASTLOG_BYTES).nth(index).unwrap_or(&empty).to_vec();
        let (old, new) = (record(before), record(now));
        if time(&new) > time(&old) {
            kept += 1;
            content.extend_from_slice(&new);
        } else {
            removed += u32::from(old != new);
            content.extend_from_slice(&old);
        }
    }
    merged(content, kept, removed)
}

fn merged(content: Vec<u8>, kept: u32, removed: u32) -> Merged {
    Merged::Merged { content: Some(content), kept, removed }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mended(before: &[u8], now: &[u8]) -> Vec<u8> {
        match append_only(before, now) {
            Merged::Merged { content: Some(content), .. } => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_power_cut_leaves_in_a_log_does_not_keep_the_cut_lines_away() {
        let before = b"one\nintruder\ntwo\n";
        assert_eq!(mended(before, b"one\ntwo\n\0\0\0\0three\n"), b"one\nintruder\ntwo\n\0\0\0\0three\n");
    }

    #[test]
    fn a_line_cut_out_of_the_middle_comes_back_and_the_daemons_stay() {
        assert_eq!(mended(b"1 a\n2 evil\n3 c\n", b"1 a\n3 c\n4 d\n"), b"1 a\n2 evil\n3 c\n4 d\n");
    }

    #[test]
    fn a_log_emptied_and_written_again_has_both() {
        assert_eq!(mended(b"1 a\n2 b\n", b""), b"1 a\n2 b\n");
        assert_eq!(mended(b"1 a\n2 b\n", b"3 c\n"), b"1 a\n2 b\n3 c\n");
    }

    #[test]
    fn a_forged_line_gives_way_to_the_old_one() {
        assert_eq!(
            mended(b"1 a\n2 from 6.6.6.6\n3 c\n", b"1 a\n2 from 127.0.0.1\n3 c\n4\n"),
            b"1 a\n2 from 6.6.6.6\n3 c\n4\n"
        );
    }

    #[test]
    fn an_old_line_logged_again_after_a_truncation_costs_nobody_a_line() {
        assert!(matches!(append_only(b"a\nb\nc\nx\n", b"new\nx\nlater\n"), Merged::Conflict(_)));
    }

    #[test]
    fn login_records_go_by_record() {
        let record = |kind: u8, fill: u8| {
            let mut bytes = vec![fill; UTMP_BYTES];
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes
        };
        let before = [record(7, b'a'), record(7, b'e'), record(8, b'c')].concat();
        let now = [record(7, b'a'), record(8, b'c'), record(7, b'd')].concat();
        assert_eq!(mended(&before, &now), [before.clone(), record(7, b'd')].concat());
    }

    #[test]
    fn a_wiped_last_login_comes_back_and_a_later_one_stays() {
        let record = |time: i32| [time.to_le_bytes().to_vec(), vec![b'x'; LASTLOG_BYTES - 4]].concat();
        let empty = vec![0; LASTLOG_BYTES];
        let before = [record(5), record(9), empty.clone()].concat();
        let now = [empty.clone(), record(12), empty.clone()].concat();
        assert_eq!(mended(&before, &now), [record(5), record(12), empty].concat());
    }

    fn log(before: &str, states: &[(bool, &str)]) -> String {
        let mut log = Log::new(before.as_bytes().to_vec());
        for (attack, state) in states {
            match attack {
                true => log.cut(state.as_bytes().to_vec()),
                false => log.grew(state.as_bytes().to_vec()).unwrap(),
            }
        }
        let Merged::Merged { content: Some(content), .. } = log.mended() else { panic!() };
        String::from_utf8(content).unwrap()
    }

    #[test]
    fn what_came_between_two_cuts_stays() {
        let states = [(true, "1\n"), (false, "1\n3\n"), (true, "1\n"), (false, "1\n4\n")];
        assert_eq!(log("1\n2\n", &states), "1\n2\n3\n4\n");
    }

    #[test]
    fn a_line_that_is_like_a_cut_one_is_one_of_its_own_after_the_cut() {
        let states = [(true, "1\n"), (false, "1\nsame\nmine\nsame\n5\n")];
        assert_eq!(log("1\nsame\nsame\nsame\n", &states), "1\nsame\nsame\nsame\nsame\nmine\nsame\n5\n");
    }

    #[test]
    fn what_others_wrote_before_the_cut_was_read_stays_and_what_the_attack_wrote_over_goes() {
        assert_eq!(log("1\n2\n3\n", &[(true, "1\n4\n"), (false, "1\n4\n5\n")]), "1\n2\n3\n4\n5\n");
        assert_eq!(log("1\n2\n3\n4\n", &[(true, "1\nx\n3\n4\n"), (false, "1\nx\n3\n4\n5\n")]), "1\n2\n3\n4\n5\n");
    }

    #[test]
    fn what_was_put_back_already_is_not_put_back_twice() {
        assert_eq!(log("1\n2\n", &[(true, ""), (false, "1\n2\n3\n")]), "1\n2\n3\n");
        assert_eq!(
            log("1\nand ha", &[(false, "1\nand half\n2\n")]),
            "1\nand half\n2\n",
            "the end of a line that was begun"
        );
        assert_eq!(
            log("1\n2\n", &[(true, "1\n"), (false, "1\n3\n"), (true, ""), (false, "1\n2\n3\n4\n")]),
            "1\n2\n3\n4\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_cut_how_often_nothing_that_was_logged_is_lost(
            rounds in proptest::collection::vec((0usize..12, proptest::collection::vec(0u32..4, 0..6)), 1..8),
        ) {
            // Lines of one round may be alike.
            let lines = |kinds: &[u32], round: usize| kinds.iter().map(|kind| format!("{round} line {kind}\n")).collect::<String>();
            let mut all = lines(&[0, 1, 2, 3, 1, 1], 0);
            let (mut now, mut log) = (all.clone(), Log::new(all.clone().into_bytes()));
            for (round, (keep, came)) in rounds.into_iter().enumerate() {
                now = now.split_inclusive('\n').take(keep).collect();
                log.cut(now.clone().into_bytes());
                now.push_str(&lines(&came, round + 1));
                all.push_str(&lines(&came, round + 1));
                prop_assert!(log.grew(now.clone().into_bytes()).is_ok());
            }
            let Merged::Merged { content: Some(content), .. } = log.mended() else { panic!() };
            prop_assert_eq!(String::from_utf8(content).unwrap(), all);
        }

        #[test]
        fn cuts_are_mended_and_appends_kept(cut in proptest::collection::vec(any::<bool>(), 1..80), appended in 0u32..20) {
            let line = |number: u32| format!("{number} something happened\n").into_bytes();
            let old: Vec<Vec<u8>> = (0..).take(cut.len()).map(line).collect();
            let new: Vec<Vec<u8>> = (1_000..1_000 + appended).map(line).collect();
            let left: Vec<Vec<u8>> = old.iter().zip(&cut).filter(|(_, cut)| !**cut).map(|(line, _)| line.clone()).collect();
            let now = [left.concat(), new.concat()].concat();
            prop_assert_eq!(mended(&old.concat(), &now), [old.concat(), new.concat()].concat());
        }

        #[test]
        fn any_bytes_get_an_answer(before in proptest::collection::vec(any::<u8>(), 0..900), now in proptest::collection::vec(any::<u8>(), 0..900)) {
            let _ = append_only(&before, &now);
        }
    }
}
