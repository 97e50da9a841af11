// SPDX-License-Identifier: Apache-2.0
//! What a content looks like, from a few samples of it.
//!
//! A form that says itself is believed (magic numbers, the crate `infer` and a few that it lacks); bytes that spread evenly
//! over all values (chi-square against the uniform distribution) and say nothing are opaque. Compressed streams spread
//! almost as evenly: they count as packed because they say so, not by their statistics.

use std::io::{self, Read};
use thymus_engine::event::{Form, Shape};

/// Bytes of one sample; taken from the start and, where that is text, from the middle.
const SAMPLE: usize = 4_096;
/// Fewer bytes than this say nothing about their distribution.
const LEAST: usize = 64;
/// Upper bound of chi-square with 255 degrees of freedom for even bytes: mean 255, deviation 22.6; six deviations.
const EVEN_MAX: f64 = 390.0;

/// Samples of a content, taken while it passes by.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    size: u64,
    head: Vec<u8>,
    middle: Vec<u8>,
}

impl Samples {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut source = Sampling::new(bytes, bytes.len() as u64);
        // Reading from memory does not fail.
        let _ = io::copy(&mut source, &mut io::sink());
        source.samples
    }

    pub(super) fn shape(&self) -> Shape {
        of_samples(&self.head, self.size, &self.middle)
    }
}

/// Hands on what it reads, and keeps samples of it.
pub(super) struct Sampling<R> {
    source: R,
    at: u64,
    middle_at: u64,
    pub(super) samples: Samples,
}

impl<R> Sampling<R> {
    /// `size`: how long the content will probably be.
    pub(super) fn new(source: R, size: u64) -> Self {
        Self { source, at: 0, middle_at: size / 2, samples: Samples { size, ..Samples::default() } }
    }
}

impl<R: Read> Read for Sampling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let Self { at, middle_at, samples: Samples { head, middle, .. }, .. } = self;
        for (sample, from) in [(head, 0), (middle, *middle_at)] {
            // Where this sample goes on within what was just read.
            let next = from + sample.len() as u64;
            let skip = usize::try_from(next.saturating_sub(*at)).unwrap_or(usize::MAX);
            if next >= *at && skip < read && sample.len() < SAMPLE {
                let end = read.min(skip + SAMPLE - sample.len());
                sample.extend_from_slice(&buffer[skip..end]);
            }
        }
        *at += read as u64;
        Ok(read)
    }
}

fn of_samples(head: &[u8], size: u64, middle: &[u8]) -> Shape {
    let (entropy, even) = statistics(head);
    let form = match named(head) {
        _ if head.is_empty() => Form::Empty,
        Some(form) => form,
        None if head.iter().all(|byte| *byte == head[0]) => Form::Blank,
        None if even => Form::Opaque,
        // Encrypted in parts, from somewhere behind the start.
        None if size > 4 * SAMPLE as u64 && statistics(middle).1 => Form::Opaque,
        None if is_text(head) => Form::Text,
        None => Form::Data,
    };
    Shape { form, entropy, size }
}

fn named(head: &[u8]) -> Option<Form> {
    let own = match head {
        [b'S', b'a', b'l', b't', b'e', b'd', b'_', b'_', ..] | [b'L', b'U', b'K', b'S', 0xba, 0xbe, ..] => Form::Sealed,
        [0, b'G', b'I', b'T', b'C', b'R', b'Y', b'P', b'T', ..] => Form::Sealed,
        // RFC 9580: a session key packet, encrypted to a key (version 3) or with a passphrase (version 4).
        [0x84, _, 3, ..] | [0x85, _, _, 3, ..] | [0xc1, _, 3, ..] | [0xc1, _, _, 3, ..] | [0x8c | 0xc3, _, 4, ..] => {
            Form::Sealed
        }
        [b'P', b'A', b'C', b'K', ..] | [b'D', b'I', b'R', b'C', ..] => Form::Packed,
        // RFC 1950.
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Form::Packed,
        [b'S', b'Q', b'L', b'i', b't', b'e', ..] => Form::Database,
        _ if head.starts_with(b"age-encryption.org/") || head.starts_with(b"-----BEGIN PGP MESSAGE") => Form::Sealed,
        _ => {
            let kind = infer::get(head)?;
            match kind.matcher_type() {
                infer::MatcherType::Image => Form::Image,
                infer::MatcherType::Audio | infer::MatcherType::Video => Form::Media,
                infer::MatcherType::Archive => Form::Packed,
                infer::MatcherType::Book | infer::MatcherType::Doc | infer::MatcherType::Font => Form::Document,
                infer::MatcherType::App => Form::Program,
                infer::MatcherType::Text => Form::Text,
                infer::MatcherType::Custom => return None,
            }
        }
    };
    Some(own)
}

/// Entropy in thousandths of a bit per byte, and whether the bytes spread evenly.
fn statistics(sample: &[u8]) -> (u16, bool) {
    let mut counts = [0u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let total = f64::from(u32::try_from(sample.len()).unwrap_or(u32::MAX));
    if sample.is_empty() {
        return (0, false);
    }
    let (mut bits, mut chi_square) = (0.0, 0.0);
    for count in counts {
        let count = f64::from(count);
        if count > 0.0 {
            bits -= count / total * (count / total).log2();
        }
        chi_square += (count - total / 256.0).powi(2) / (total / 256.0);
    }
    // INVARIANT: at most 8 bits, so 0..=8000.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=8000")]
    let entropy = (bits * 1_000.0).round() as u16;
    (entropy, sample.len() >= LEAST && chi_square <= EVEN_MAX)
}

/// UTF-8, or an older encoding that is mostly ASCII, without control characters that text does not have.
fn is_text(sample: &[u8]) -> bool {
    let control = |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    if sample.iter().any(|byte| control(&byte)) {
        return false;
    }
    let whole = match std::str::from_utf8(sample) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(), // cut in the middle of a character
    };
    whole || sample.iter().filter(|byte| byte.is_ascii()).count() * 10 >= sample.len() * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even bytes, the same in every run.
    fn random(length: usize) -> Vec<u8> {
        let mut output = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut output);
        output
    }

    fn form(bytes: &[u8]) -> Form {
        Samples::of(bytes).shape().form
    }

    #[test]
    fn what_says_its_form_is_believed_and_even_bytes_that_say_nothing_are_opaque() {
        let behind = |magic: &[u8]| [magic, &random(20_000)].concat();
        for (bytes, wanted) in [
            (Vec::new(), Form::Empty),
            (vec![0; 9_000], Form::Blank),
            (b"Call the printer people.\n".repeat(40), Form::Text),
            ("Grüße aus Köln\n".repeat(400).into_bytes(), Form::Text),
            (behind(b"\x1f\x8b\x08\0"), Form::Packed),
            (behind(b"\x78\x9c"), Form::Packed),
            (behind(b"PK\x03\x04"), Form::Packed),
            (behind(b"\x89PNG\r\n\x1a\n"), Form::Image),
            (behind(b"\xff\xd8\xff\xe0"), Form::Image),
            (behind(b"%PDF-1.7\n"), Form::Packed),
            (behind(b"SQLite format 3\0"), Form::Database),
            (behind(b"\x7fELF\x02\x01\x01"), Form::Program),
            (behind(b"Salted__"), Form::Sealed),
            (behind(b"\x8c\x0d\x04\x09"), Form::Sealed),
            (random(20_000), Form::Opaque),
            (random(100), Form::Opaque),
            ([b"some words ".repeat(600), random(20_000)].concat(), Form::Opaque),
            ([1u8, 2, 3, 0].repeat(900), Form::Data),
        ] {
            let found = form(&bytes);
            let document = wanted == Form::Packed && found == Form::Document;
            assert!(
                found == wanted || document,
                "{:?}: found {found:?}, expected {wanted:?}",
                &bytes[..bytes.len().min(12)]
            );
        }
    }

    #[test]
    fn no_length_of_text_looks_even() {
        for length in 1..2_000 {
            let text: Vec<u8> = b"The quick brown fox jumps over the lazy dog, 0123456789 times. "
                .iter()
                .cycle()
                .take(length)
                .copied()
                .collect();
            assert_ne!(form(&text), Form::Opaque, "{length} bytes");
        }
    }

    #[test]
    fn even_bytes_are_opaque_at_every_length_that_says_something() {
        for length in LEAST..3_000 {
            assert_eq!(form(&random(length)), Form::Opaque, "{length} bytes");
        }
    }
}
