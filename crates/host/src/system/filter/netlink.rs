// SPDX-License-Identifier: Apache-2.0
//! Messages of nf_tables as the kernel wants them, and its answers.
//!
//! Input: attributes. Output: bytes; of an answer the attributes. Numbers are in the kernel's own order (headers) or in the
//! network's (values). Sources: netlink(7), linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.

const HEADER_BYTES: usize = 16;
/// A header of nfnetlink follows that of netlink: family, version, resource.
const GENERIC_BYTES: usize = 4;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NFPROTO_INET`: tables that see both versions of IP.
const FAMILY: u8 = 1;
const NESTED: u16 = 0x8000;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of an attribute's number.
const NUMBER_MASK: u16 = 0x3fff;

pub(super) const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

/// What is asked of nf_tables, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Verb {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// Messages that are sent together: what stands between begin and end happens at one instant, or not at all.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) bytes: Vec<u8>,
    /// The number of the last message.
    pub(super) sequence: u32,
    /// How many of them are to be acknowledged. What is refused is told in any case.
    pub(super) awaited: u32,
}

impl Messages {
    pub(super) fn batch(content: impl FnOnce(&mut Self)) -> Self {
        let mut messages = Self::default();
        messages.border(BATCH_BEGIN);
        content(&mut messages);
        messages.border(BATCH_END);
        messages
    }

    fn border(&mut self, kind: u16) {
        let start = self.head(kind, REQUEST, 0, SUBSYSTEM);
        self.close(start);
    }

    pub(super) fn message(&mut self, verb: Verb, flags: u16, content: impl FnOnce(&mut Attributes<'_>)) {
        self.awaited += u32::from(flags & ACKNOWLEDGE != 0);
        let start = self.head(SUBSYSTEM << 8 | verb as u16, REQUEST | flags, FAMILY, 0);
        content(&mut Attributes(&mut self.bytes));
        self.close(start);
    }

    fn head(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> usize {
        let start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend(0u32.to_ne_bytes()); // the length, when it is known
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Attributes, written one after the other.
#[derive(Debug)]
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, number: u16, value: &[u8]) {
        let start = self.open(number);
        self.0.extend(value);
        self.close(start);
    }

    /// With the zero that ends it.
    pub(super) fn text(&mut self, number: u16, value: &str) {
        let start = self.open(number);
        self.0.extend(value.as_bytes());
        self.0.push(0);
        self.close(start);
    }

    pub(super) fn number(&mut self, number: u16, value: u32) {
        self.bytes(number, &value.to_be_bytes());
    }

    pub(super) fn nest(&mut self, number: u16, content: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.open(number | NESTED);
        content(&mut Attributes(self.0));
        self.close(start);
    }

    fn open(&mut self, number: u16) -> usize {
        let start = self.0.len();
        self.0.extend(0u16.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Done, or why not, as the number of an error.
    Acknowledged { sequence: u32, error: i32 },
    /// Nothing follows.
    Done,
    /// One of what was asked for: its attributes.
    Told(&'a [u8]),
}

/// The messages of what was received, as far as they are whole.
pub(super) fn answers(received: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = received;
    std::iter::from_fn(move || {
        let length = usize::try_from(number(rest, 0)?).ok()?;
        let message = rest.get(..length).filter(|_| length >= HEADER_BYTES)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        Some(match kind {
            ERROR => {
                let error = i32::from_ne_bytes(message.get(HEADER_BYTES..HEADER_BYTES + 4)?.try_into().ok()?);
                Answer::Acknowledged { sequence: number(message, 8)?, error: error.saturating_neg() }
            }
            DONE => Answer::Done,
            _ => Answer::Told(message.get(HEADER_BYTES + GENERIC_BYTES..)?),
        })
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Attributes of an answer: number and value of each, as far as they are whole.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [low, high, first, second, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([first, second]) & NUMBER_MASK, value))
    })
}

/// The value of the attribute of this number.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(number, _)| *number == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_received_is_read_without_an_end_beyond_it(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(answers(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn attributes_are_read_as_they_are_written(values in proptest::collection::vec((1u16..64, proptest::collection::vec(any::<u8>(), 0..32)), 0..8)) {
            let mut bytes = Vec::new();
            for (number, value) in &values {
                Attributes(&mut bytes).bytes(*number, value);
            }
            let read: Vec<(u16, Vec<u8>)> = attributes(&bytes).map(|(number, value)| (number, value.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn a_refusal_names_its_message() {
        let mut messages = Messages::default();
        messages.message(Verb::NewTable, ACKNOWLEDGE, |table| table.text(1, "thymus"));
        assert_eq!(messages.bytes.len(), HEADER_BYTES + GENERIC_BYTES + 4 + 8);
        let mut refusal = Messages { sequence: 6, ..Messages::default() };
        let start = refusal.head(ERROR, 0, 0, 0);
        refusal.bytes[HEADER_BYTES..].copy_from_slice(&(-2i32).to_ne_bytes());
        refusal.close(start);
        let read: Vec<_> = answers(&refusal.bytes).collect();
        assert_eq!(read, [Answer::Acknowledged { sequence: 7, error: 2 }]);
    }
}
