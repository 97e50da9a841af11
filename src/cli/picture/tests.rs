// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use thymus_engine::event::{Confidence, Endpoint, Traffic};
use thymus_engine::graph::Contact;
use thymus_engine::incident::{
    Deed, FindingSummary, Incident, InvocationKind, NODES_MAX, Object, Peer, Root, Secret, Stage, Subject,
};
use thymus_engine::{BootId, FindingId, HostPath, IncidentId, ProcessKey, Timestamp, VersionId};

fn process(pid: usize) -> ProcessKey {
    ProcessKey { boot: BootId(1), pid: u32::try_from(pid).unwrap(), start_time: Timestamp(pid as u64) }
}

/// Everything in it that an attacker may name is named `names`, in turn.
fn told(names: &[Vec<u8>], size: usize) -> Told {
    let path = |at: usize| HostPath::new(&[format!("/x/{at}/").as_bytes(), &names[at % names.len()]].concat());
    let text = |at: usize| String::from_utf8_lossy(&names[at % names.len()]).into_owned();
    let root =
        Root { kind: InvocationKind::Session, leader: process(1), title: text(0), src_endpoint: None, score: 1.0 };
    let finding = FindingSummary {
        id: FindingId(1),
        time: Timestamp(0),
        analytic: text(1),
        technique: text(2),
        title: text(3),
        confidence: Confidence::High,
        paths: vec![path(0), path(1)],
        process: process(3),
    };
    let subject = |at: usize| Subject {
        process: process(at),
        program: Some(path(at)),
        cmd_line: if at.is_multiple_of(2) { Vec::new() } else { vec![text(at), text(at + 1)] },
        uid: 0,
        reason: text(at),
        alive: at.is_multiple_of(3),
        by: process(at / 2),
        through: None,
    };
    let object = |at: usize| Object {
        path: path(at),
        class: ObjectClass::Mixed,
        first_version: VersionId(1),
        reason: text(at),
        by: process(at % 7),
        shown: None,
        deed: Deed::Created,
    };
    let secret = |at: usize| Secret { path: path(at), process: process(at % 5), time: Timestamp(0) };
    let peer = |at: usize| Peer {
        contact: Contact {
            endpoint: Endpoint { ip: [10, 0, 0, u8::try_from(at % 256).unwrap()].into(), port: 80 },
            inbound: at.is_multiple_of(2),
            connections: 1,
            traffic: Traffic::default(),
        },
        process: process(at % 7),
    };
    let incident = Incident {
        id: IncidentId(1),
        stage: Stage::Open,
        why: text(4),
        opened: Timestamp(0),
        contained: None,
        restored: None,
        healed: None,
        confirmed: true,
        roots: vec![root],
        findings: vec![finding],
        subjects: (0..size.min(40)).map(subject).collect(),
        objects: (0..size).map(object).collect(),
        contacts: (0..size.min(6)).map(peer).collect(),
        secrets: (0..size.min(6)).map(secret).collect(),
        hearsay: Vec::new(),
        actions: Vec::new(),
        worse: Vec::new(),
        omitted: 0,
    };
    Told { incident, now: Timestamp(0), boot_to_unix_ns: 0 }
}

/// Bytes that mean something to a terminal, to XML or to the eye, and any others.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"<script>",
        b"]]>",
        b"--><!--",
        b"&#0;",
        b"&amp;",
        b"\"'",
        b"\x1b[2J",
        b"\n",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "\u{202e}".as_bytes(),
        "\u{fffe}\u{ffff}".as_bytes(),
        "a\u{301}\u{301}\u{301}".as_bytes(),
        "世界".as_bytes(),
        "\u{e0041}".as_bytes(),
        b"\x7f\x01",
        b"</desc></title></svg>",
        b" ",
        b"%s",
    ];
    let part = prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(<[u8]>::to_vec),
        proptest::collection::vec(1u8..=255, 0..40),
        "\\PC{0,20}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// The four numbers of a node's outline.
fn boxes(document: &roxmltree::Document<'_>) -> Vec<[usize; 4]> {
    let nodes = document.descendants().filter(|node| {
        node.has_tag_name("g")
            && node.attribute("transform").is_some()
            && node.children().any(|child| child.has_tag_name("title"))
    });
    let place = |node: roxmltree::Node<'_, '_>| {
        let at = node.attribute("transform").unwrap().trim_start_matches("translate(").trim_end_matches(')').to_owned();
        let (x, y) = at.split_once(' ').unwrap();
        let lines =
            node.descendants().filter(|child| child.has_tag_name("text")).map(|text| text.attribute("y").unwrap());
        let lowest = lines.map(|y| y.parse::<usize>().unwrap()).max().unwrap();
        [x.parse().unwrap(), y.parse().unwrap(), 252, lowest + 10]
    };
    nodes.map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_things_are_called_the_picture_is_xml_without_anything_that_acts(
        names in proptest::collection::vec(any_name(), 1..8),
        size in prop_oneof![0usize..60, Just(3_000)],
    ) {
        let told = told(&names, size);
        let picture = Picture::of(&told.incident);
        let text = svg(&told, &picture);
        let document = roxmltree::Document::parse(&text).unwrap();

        // Nothing but what this file draws, and nothing that leads out of it.
        let tags = ["svg", "title", "desc", "style", "clipPath", "rect", "path", "g", "text"];
        for node in document.descendants().filter(roxmltree::Node::is_element) {
            prop_assert!(tags.contains(&node.tag_name().name()), "{:?}", node.tag_name());
            for attribute in node.attributes() {
                let out = attribute.name().starts_with("on") || attribute.name() == "href";
                prop_assert!(!out && !attribute.value().contains("javascript:"), "{attribute:?}");
            }
        }
        let hidden = |character: char| character != '\n' && (character.is_control() || show::plain(&character.to_string()) != character.to_string());
        prop_assert!(!text.contains(hidden), "{:?}", text.find(hidden).map(|at| &text[at..(at + 40).min(text.len())]));

        // Each node is there once, and no two lie on each other.
        let boxes = boxes(&document);
        prop_assert!(boxes.len() == picture.nodes.len() && boxes.len() <= NODES_MAX);
        for (at, [x, y, w, h]) in boxes.iter().enumerate() {
            for [a, b, c, d] in &boxes[..at] {
                prop_assert!(x + w <= *a || a + c <= *x || y + h <= *b || b + d <= *y, "{boxes:?}");
            }
        }
        // Who listens hears the same nodes, each on a line of its own.
        let heard = document.descendants().find(|node| node.has_tag_name("desc")).and_then(|desc| desc.text()).unwrap();
        prop_assert_eq!(heard.trim_start(), lines(&told, &picture));
        let numbered = |line: &&str| line.get(..4).is_some_and(|number| number.trim().parse::<usize>().is_ok());
        prop_assert_eq!(lines(&told, &picture).lines().filter(numbered).count(), picture.nodes.len());
        prop_assert_eq!(&text, &svg(&told, &picture));
    }
}

#[test]
fn a_picture_never_takes_the_place_of_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.svg");
    save(&file, "one").unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let error = save(&file, "two").unwrap_err();
    assert!(format!("{error:#}").contains("exists"), "{error:#}");
    let link = directory.path().join("link.svg");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
    save(&link, "two").unwrap_err();
    assert!(!directory.path().join("elsewhere").exists());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
}
