// SPDX-License-Identifier: Apache-2.0
//! Times as syslog (RFC 3164, RFC 3339) and web servers (Common Log Format) write them.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Bytes of the time that a text begins with.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    if let Some(length) = begins(text, "AAA _0 00:00:00").or_else(|| begins(text, "00/AAA/0000:00:00:00 +0000")) {
        return Some(length);
    }
    let mut length = begins(text, "0000-00-00T00:00:00")?;
    if text.get(length) == Some(&b'.') {
        length += 1 + text[length + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    let zone = &text[length..];
    Some(length + begins(zone, "Z").or_else(|| begins(zone, "+00:00"))?)
}

/// `0`: a digit; `_`: a digit or a blank; `A`: a letter; `+`: a sign.
fn begins(text: &[u8], shape: &str) -> Option<usize> {
    let fits = |(byte, wanted): (&u8, u8)| match wanted {
        b'0' => byte.is_ascii_digit(),
        b'_' => byte.is_ascii_digit() || *byte == b' ',
        b'A' => byte.is_ascii_alphabetic(),
        b'+' => matches!(byte, b'+' | b'-'),
        other => *byte == other,
    };
    (text.len() >= shape.len() && text.iter().zip(shape.bytes()).all(fits)).then_some(shape.len())
}

/// Unix time, in seconds. `None` for the traditional time of syslog, which has neither year nor zone.
pub(super) fn unix_seconds(text: &str) -> Option<i64> {
    if length(text.as_bytes()) != Some(text.len()) {
        return None;
    }
    let number = |at: usize, digits: usize| text.get(at..at + digits)?.parse::<i64>().ok();
    let month = |at: usize| MONTHS.iter().position(|name| text.get(at..at + 3) == Some(*name));
    // Year, month, day, and where the time of day and the zone begin.
    let (year, month, day, clock, zone) = match text.as_bytes().get(2)? {
        b'/' => (number(7, 4)?, i64::try_from(month(3)?).ok()? + 1, number(0, 2)?, 12, 21),
        byte if byte.is_ascii_digit() => {
            (number(0, 4)?, number(5, 2)?, number(8, 2)?, 11, text.rfind(['Z', '+', '-'])?)
        }
        _ => return None,
    };
    let of_day = number(clock, 2)? * 3_600 + number(clock + 3, 2)? * 60 + number(clock + 6, 2)?;
    let east = match text.as_bytes()[zone] {
        b'Z' => 0,
        sign => {
            let minutes = number(zone + 1, 2)? * 60 + number(text.len() - 2, 2)?;
            if sign == b'-' { -minutes } else { minutes }
        }
    };
    // Source: H. Hinnant, "chrono-compatible low-level date algorithms"; a year begins with March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + of_day - east * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [(&str, Option<i64>); 8] = [
        ("Jan  5 09:00:12", None),
        ("Jan 15 09:00:12", None),
        ("05/Jan/2026:09:00:12 +0000", Some(1_767_603_612)),
        ("05/Jan/2026:04:00:12 -0500", Some(1_767_603_612)),
        ("2026-01-05T09:00:12Z", Some(1_767_603_612)),
        ("2026-01-05T14:30:12.123456+05:30", Some(1_767_603_612)),
        ("2024-02-29T23:59:60Z", Some(1_709_251_200)),
        ("29/Feb/2000:00:00:00 +0000", Some(951_782_400)),
    ];

    #[test]
    fn a_time_is_whole_or_none() {
        for (time, seconds) in TIMES {
            assert_eq!(length(time.as_bytes()), Some(time.len()), "{time}");
            assert_eq!(length(format!("{time} shop").as_bytes()), Some(time.len()), "{time}");
            assert_eq!(unix_seconds(time), seconds, "{time}");
            for cut in 0..time.len() {
                assert_eq!(length(&time.as_bytes()[..cut]), None, "{time}, {cut} bytes of it");
                assert_eq!(unix_seconds(&time[..cut]), None, "{time}, {cut} bytes of it");
            }
        }
    }
}
