// SPDX-License-Identifier: Apache-2.0
//! The form of dpkg's own files, deb-control(5): paragraphs of fields, of any bytes.

use super::lines;
use std::collections::BTreeMap;

/// Each paragraph's fields by name, with all lines of the value; of two with one name the last.
pub(crate) fn paragraphs(bytes: &[u8]) -> impl Iterator<Item = BTreeMap<&[u8], &[u8]>> {
    let (mut at, mut fields, mut open) = (0, BTreeMap::new(), None);
    lines(bytes).chain([&b""[..]]).filter_map(move |line| {
        let start = at;
        at += line.len() + 1;
        let continues = line.starts_with(b" ") || line.starts_with(b"\t");
        match (open, line.iter().position(|byte| *byte == b':')) {
            _ if line.is_empty() => {
                open = None;
                let done = std::mem::take(&mut fields);
                return (!done.is_empty()).then_some(done);
            }
            (Some((name, from)), _) if continues => {
                fields.insert(name, &bytes[from..start + line.len()]);
            }
            (_, Some(colon)) if !continues => {
                let name = &line[..colon];
                open = Some((name, start + colon + 1));
                fields.insert(name, &line[colon + 1..]);
            }
            _ => {}
        }
        None
    })
}

/// The value of a field of one line; empty when there is none.
pub(crate) fn value<'b>(fields: &BTreeMap<&[u8], &'b [u8]>, name: &str) -> &'b [u8] {
    fields.get(name.as_bytes()).map_or(&[], |value| lines(value).next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_the_lines_that_go_on_and_paragraphs_end_at_empty_lines() {
        let text = b"lost\n gone\nA: 1\nC:\n /x y\n\t/z: w\nno field\nB: 2: 3\n\n\nA: 4";
        let found: Vec<_> = paragraphs(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (value(&found[0], "A"), value(&found[0], "B"), value(&found[0], "D")),
            (&b"1"[..], &b"2: 3"[..], &b""[..])
        );
        assert_eq!(found[0].get(&b"C"[..]).copied(), Some(&b"\n /x y\n\t/z: w"[..]));
        assert_eq!(value(&found[1], "A"), b"4");
    }
}
