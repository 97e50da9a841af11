// SPDX-License-Identifier: Apache-2.0
//! Hostile journals: as bytes, and as well-chained records with any payload.

use super::anchor::Anchor;
use super::frame::{self, Frames};
use super::record::{Intent, Run, Story, binary, decode, json, kind};
use crate::perform::Before;
use crate::system::UnitState;
use thymus_engine::engine::Engine;
use thymus_engine::{Action, ActionId, Effect, IncidentId, Input, Timestamp};

/// Every frame that can be trusted, decoded; how many there were.
fn read(bytes: &[u8]) -> usize {
    let Ok((_, frames)) = Frames::open(bytes, bytes.len() as u64) else { return 0 };
    frames.map_while(Result::ok).map(|frame| drop(decode(&frame))).count()
}

/// A segment of any bytes; then the same bytes as payloads: kind, length (u16, little endian), content.
pub(crate) fn segment(bytes: &[u8]) {
    read(bytes);
    let mut rest = bytes;
    let mut payloads = Vec::new();
    while let [kind, low, high, tail @ ..] = rest {
        let (payload, next) = tail.split_at(tail.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        payloads.push((*kind, payload));
        rest = next;
    }
    assert_eq!(read(&frame::segment(1, &payloads)), payloads.len(), "what was written is read again");
}

pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    let (action, incident, time) = (ActionId(1), IncidentId(1), Timestamp(5));
    let what = Action::ReloadService { unit: "nginx.service".to_owned() };
    let verdict = None;
    let intent =
        Intent { action, incident, what: what.clone(), verdict, before: Before::Unit(UnitState::default()), time };
    let records = [
        (kind::RUN, json(&Run { boot: 1, pid: 2, version: "1".to_owned() })),
        (kind::INPUT, binary(&Input::Tick)),
        (kind::EFFECT, binary(&Effect::Prepare { action, incident, what })),
        (kind::INTENT, json(&intent)),
        (kind::SETTLED, json(&(action, thymus_engine::action::Outcome::Success))),
        (kind::CARRIED, json(&Story { intent, outcome: None, undone: false })),
        (kind::LOST, json(&3_u64)),
    ];
    let records: Vec<(u8, Vec<u8>)> =
        records.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes.ok()?))).collect();
    let borrowed: Vec<(u8, &[u8])> = records.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())).collect();
    let listed = borrowed.iter().flat_map(|(kind, bytes)| {
        let length = u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
        [*kind, length[0], length[1]].into_iter().chain(bytes.iter().copied())
    });
    vec![frame::segment(1, &borrowed), listed.collect()]
}

/// An anchor's slot, as it is and with a check that holds.
pub(crate) fn anchor(bytes: &[u8]) {
    let mut slot = [0; 128];
    for (into, from) in slot.iter_mut().zip(bytes) {
        *into = *from;
    }
    let _ = Anchor::decode(&slot);
    let check = blake3::hash(&slot[..112]);
    slot[112..].copy_from_slice(&check.as_bytes()[..16]);
    assert!(Anchor::decode(&slot).is_some_and(|anchor| anchor.encode() == slot));
}

/// The engine's own state, as a checkpoint has it: what can be read can be looked at and written again.
pub(crate) fn checkpoint(bytes: &[u8]) {
    let Ok((_, engine)) = postcard::from_bytes::<(u64, Engine)>(bytes) else { return };
    let _ = engine.view();
    assert!(postcard::to_stdvec(&engine).is_ok());
}

pub(crate) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let (mut engine, mut effects) = (Engine::new(), Vec::new());
    for target in thymus_engine::fuzz::TARGETS.iter().filter(|target| target.name == "inputs") {
        for (now, input) in (target.seeds)().iter().flat_map(|text| thymus_engine::fuzz::lines(text)) {
            engine.step(now, input, &mut effects);
        }
    }
    [Engine::new(), engine].iter().filter_map(|engine| postcard::to_stdvec(&(7_u64, engine)).ok()).collect()
}
