// SPDX-License-Identifier: Apache-2.0
//! Words for people: times, spans, counts, and hostile text made harmless.

use thymus_engine::Timestamp;

/// Text that an attacker may have chosen, as one line that cannot move the cursor or hide a part of itself.
pub(crate) fn plain(text: &str) -> String {
    use std::fmt::Write;
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || hides(character) {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                // INVARIANT: writing to a `String` cannot fail.
                let _ = write!(plain, "\\x{byte:02x}");
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Writing-direction and zero-width marks make a text look like another one; the last two are no characters at all.
const fn hides(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// At most `width` characters of a harmless text; what is left out shows as `…`.
pub(crate) fn short(text: &str, width: usize) -> String {
    let plain = plain(text);
    if plain.chars().count() <= width {
        return plain;
    }
    plain.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// At most `width` characters of a harmless text, cut in the middle: how a path begins and ends says most.
pub(crate) fn middle(plain: &str, width: usize) -> String {
    let count = plain.chars().count();
    if count <= width {
        return plain.to_owned();
    }
    let tail = width * 3 / 5;
    let head = width.saturating_sub(tail + 1);
    plain.chars().take(head).chain(['…']).chain(plain.chars().skip(count - tail)).collect()
}

/// Days, and the time of that day, of a Unix time. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil(unix_ns: u64) -> (u64, u64, u64, u64) {
    let (days, of_day_ns) = (unix_ns / 86_400_000_000_000, unix_ns % 86_400_000_000_000);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day, of_day_ns)
}

/// `2026-11-22 21:25:03`, in UTC.
pub(crate) fn date(time: Timestamp, boot_to_unix_ns: u64) -> String {
    let (year, month, day, of_day_ns) = civil(time.0.saturating_add(boot_to_unix_ns));
    let seconds = of_day_ns / 1_000_000_000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A span in the two units that matter: `340 µs`, `12 ms`, `4.1 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..60_000_000_000 => format!("{s}.{} s", ns / 100_000_000 % 10),
        _ if s < 3_600 => format!("{} min {} s", s / 60, s % 60),
        _ if s < 86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}{}", if one.ends_with('s') { "es" } else { "s" })
    }
}

/// `512 kB`, `1.4 GB`; powers of ten.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// `text` broken into lines of at most `width` characters, each below `indent` spaces.
pub(crate) fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > width {
            lines += &format!("{:indent$}{line}\n", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if line.is_empty() { lines } else { lines + &format!("{:indent$}{line}\n", "") }
}

/// Reads `90s`, `15m`, `2h`, `1d` as nanoseconds.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let expected = || format!("found `{}`, expected a number with s, m, h or d, such as `2h`", plain(text));
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    let ns = number.checked_mul(seconds).filter(|seconds| (1..=30 * 86_400).contains(seconds));
    ns.map(|seconds| seconds * 1_000_000_000)
        .ok_or_else(|| format!("found `{}`, expected 1 second to 30 days", plain(text)))
}

/// The boot clock, as every time of the agent.
pub(crate) fn boot_clock() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, ns) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    Timestamp(seconds * 1_000_000_000 + ns)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn hostile_text_stays_on_its_line_and_shows_what_hides() {
        assert_eq!(plain("a\nb\x1b[2J\u{202e}c"), "a\\x0ab\\x1b[2J\\xe2\\x80\\xaec");
        assert_eq!(plain("Grüße, 世界"), "Grüße, 世界");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |unix: u64| date(Timestamp(0), unix * 1_000_000_000);
        assert_eq!(at(0), "1970-01-01 00:00:00");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(at(1_795_382_703), "2026-11-22 21:25:03");
        assert_eq!(at(4_107_542_399), "2100-02-28 23:59:59");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00");
    }

    #[test]
    fn spans_read_back_and_refuse_what_is_no_span() {
        assert_eq!(parse_span("2h"), Ok(7_200_000_000_000));
        for wrong in ["", "h", "2", "-2h", "2x", "0s", "31d", "99999999999999999999d", "2ü", "18446744073709551615d"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(span(12_345_678), "12 ms");
        assert_eq!(span(4_180_000_000), "4.1 s");
        assert_eq!(span(3_725_000_000_000), "1 h 2 min");
    }
}
