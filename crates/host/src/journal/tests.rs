// SPDX-License-Identifier: Apache-2.0
use super::read::open_frames;
use super::scan::{scan, segment_path};
use super::*;
use crate::perform::Before;
use std::io::Write;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;
use thymus_engine::Action;

fn intent(action: u64, incident: u64) -> Intent {
    Intent {
        action: ActionId(action),
        incident: IncidentId(incident),
        what: Action::ReloadService { unit: "nginx.service".to_owned() },
        verdict: None,
        before: Before::Unit(crate::system::UnitState::default()),
        time: Timestamp(action),
    }
}

fn filled() -> (TempDir, PathBuf) {
    let directory = TempDir::with_prefix("thymus-").unwrap();
    let path = directory.path().join("journal");
    let (journal, _) = Journal::open(&path).unwrap();
    for time in 1..=20 {
        journal.append_input(Timestamp(time), &Input::Tick).unwrap();
    }
    journal.intend(&intent(1, 1)).unwrap();
    journal.settle(Timestamp(22), ActionId(1), &Outcome::Success).unwrap();
    journal.intend(&intent(2, 1)).unwrap();
    (directory, path)
}

fn segment(path: &Path) -> PathBuf {
    segment_path(path, 1)
}

#[test]
fn what_was_written_is_read_again() {
    let (_directory, path) = filled();
    let (journal, report) = Journal::open(&path).unwrap();
    assert!(report.problems.is_empty() && report.torn.is_none(), "{report:?}");
    assert_eq!(journal.open_intents(), [intent(2, 1)]);
    assert_eq!(journal.story(ActionId(1)).unwrap().outcome, Some(Outcome::Success));
    let replay = journal.replay().unwrap();
    let inputs: Vec<_> = replay.inputs.map(|input| input.unwrap()).collect();
    assert_eq!(inputs, (1..=20).map(|time| (Timestamp(time), Input::Tick)).collect::<Vec<_>>());
    let mut text = Vec::new();
    export(&path, &mut text).unwrap();
    let lines = String::from_utf8(text).unwrap();
    assert_eq!(lines.lines().count() as u64, verify(&path).unwrap().frames);
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn a_crash_in_the_middle_of_a_record_costs_that_record_and_nothing_else() {
    let (_directory, path) = filled();
    let whole = std::fs::metadata(segment(&path)).unwrap().len();
    let file = File::options().append(true).open(segment(&path)).unwrap();
    (&file).write_all(&[9, 0, 0, 0, 2, 1, 1]).unwrap();
    let torn = verify(&path).unwrap().torn.unwrap();
    assert_eq!(torn.offset, whole);
    let (journal, report) = Journal::open(&path).unwrap();
    assert_eq!(report.torn.unwrap().offset, whole);
    assert_eq!(journal.open_intents().len(), 1);
    drop(journal);
    let report = verify(&path).unwrap();
    assert!(report.torn.is_none() && report.problems.is_empty(), "{report:?}");
}

#[test]
fn any_altered_byte_is_refused_with_its_place() {
    let (_directory, path) = filled();
    let bytes = std::fs::read(segment(&path)).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let file = File::options().write(true).open(segment(&path)).unwrap();
        file.write_all_at(&[bytes[at] ^ 0x20], at as u64).unwrap();
        let Err(Error::Refused(problem)) = Journal::open(&path) else { panic!("byte {at} altered unseen") };
        assert_eq!(problem.file, segment(&path));
        assert!(problem.offset <= at.max(frame::HEADER_BYTES) as u64);
        file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
    Journal::open(&path).unwrap();
}

#[test]
fn a_cut_tail_is_seen_though_it_ends_at_a_record() {
    let (_directory, path) = filled();
    let mut ends = Vec::new();
    let mut frames = open_frames(&segment(&path)).unwrap();
    while frames.next().is_some() {
        ends.push(frames.offset());
    }
    for end in &ends[..ends.len() - 1] {
        let copy = TempDir::with_prefix("thymus-").unwrap();
        for name in [segment(&path), anchor_path(&path)] {
            std::fs::copy(&name, copy.path().join(name.file_name().unwrap())).unwrap();
        }
        File::options().write(true).open(segment(copy.path())).unwrap().set_len(*end).unwrap();
        let Err(Error::Refused(problem)) = Journal::open(copy.path()) else { panic!("a cut at {end} was not seen") };
        assert_eq!(problem.offset, *end);
    }
}

#[test]
fn a_record_taken_out_of_the_middle_or_a_rewritten_end_is_seen() {
    let (_directory, path) = filled();
    let bytes = std::fs::read(segment(&path)).unwrap();
    let mut frames = open_frames(&segment(&path)).unwrap();
    frames.next();
    let first = usize::try_from(frames.offset()).unwrap();
    let head = frames.head();
    frames.next();
    let second = usize::try_from(frames.offset()).unwrap();
    let mut without = bytes[..first].to_vec();
    without.extend_from_slice(&bytes[second..]);
    std::fs::write(segment(&path), &without).unwrap();
    assert!(matches!(Journal::open(&path), Err(Error::Refused(_))));
    // A chain that is right in itself, but not the one that the anchor remembers.
    let mut forged = bytes[..first].to_vec();
    let mut head = head;
    while forged.len() < bytes.len() {
        head = frame::write(&mut forged, &head, kind::INPUT, 1, &[2]).unwrap();
    }
    std::fs::write(segment(&path), &forged).unwrap();
    assert!(matches!(Journal::open(&path), Err(Error::Refused(_))));
}

#[test]
fn a_missing_segment_or_anchor_is_refused_and_the_agent_guards_on_with_a_new_journal() {
    for victim in [segment as fn(&Path) -> PathBuf, anchor_path] {
        let (_directory, path) = filled();
        std::fs::remove_file(victim(&path)).unwrap();
        assert!(matches!(Journal::open(&path), Err(Error::Refused(_))));
        let (journal, _, problem) = Journal::open_or_quarantine(&path).unwrap();
        assert!(problem.unwrap().what.contains("refused-1"));
        journal.intend(&intent(1, 1)).unwrap();
        assert!(path.with_extension("refused-1").is_dir());
    }
}

#[test]
fn a_checkpoint_begins_a_segment_and_old_ones_go_but_open_intents_stay() {
    let directory = TempDir::with_prefix("thymus-").unwrap();
    let path = directory.path().join("journal");
    let options = Options { segment_bytes: 4_096, total_bytes: 16_384 };
    let (journal, _) = Journal::open_with(&path, options).unwrap();
    journal.intend(&intent(1, 1)).unwrap();
    let mut time = 0;
    for round in 1..=20u8 {
        while !journal.wants_checkpoint() {
            time += 1;
            journal.append_input(Timestamp(time), &Input::Tick).unwrap();
        }
        journal.checkpoint(Timestamp(time), &[round]).unwrap();
    }
    journal.append_input(Timestamp(time + 1), &Input::Tick).unwrap();
    drop(journal);
    let (journal, report) = Journal::open_with(&path, options).unwrap();
    assert!(report.bytes < options.total_bytes + 2 * options.segment_bytes, "{report:?}");
    assert_eq!(journal.open_intents(), [intent(1, 1)]);
    let replay = journal.replay().unwrap();
    assert_eq!(replay.checkpoint, Some((Timestamp(time), vec![20])));
    assert_eq!(replay.inputs.map(|input| input.unwrap().0).collect::<Vec<_>>(), [Timestamp(time + 1)]);
    drop(journal);
    // Taking out a segment from the middle is seen.
    let middle = verify(&path).unwrap().segments;
    let last = scan(&path, 0, &mut |_, _| Ok(())).unwrap().tail.unwrap().segment;
    assert!(middle >= 3);
    std::fs::remove_file(segment_path(&path, last - 1)).unwrap();
    assert!(verify(&path).unwrap().problems[0].what.contains("missing"));
}

#[test]
fn intents_of_many_threads_are_all_there_after_a_restart() {
    let directory = TempDir::with_prefix("thymus-").unwrap();
    let (journal, _) = Journal::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = journal.clone();
            scope.spawn(move || {
                for number in 0..10 {
                    journal.append_input(Timestamp(1), &Input::Tick).unwrap();
                    journal.intend(&intent(thread * 10 + number, 1)).unwrap();
                }
            });
        }
    });
    drop(journal);
    let (journal, _) = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.open_intents().len(), 40);
}

/// Needs root: mounts a small tmpfs.
#[test]
fn a_full_disk_refuses_intents_loses_inputs_loudly_and_corrupts_nothing() {
    struct Mounted(TempDir);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0.path()).status();
        }
    }
    let place = Mounted(TempDir::with_prefix("thymus-").unwrap());
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16m", "thymus-journal"])
        .arg(place.0.path())
        .status();
    assert!(mount.unwrap().success(), "this test must run as root");
    let path = place.0.path().join("journal");
    let (journal, _) = Journal::open(&path).unwrap();
    journal.intend(&intent(1, 1)).unwrap();
    let ballast = place.0.path().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    journal.settle(Timestamp(2), ActionId(1), &Outcome::Success).unwrap();
    let refused = (2..20_000).find(|number| journal.intend(&intent(*number, 1)).is_err());
    let refused = refused.expect("a full disk refuses intents");
    assert!(journal.open_intents().iter().all(|open| open.action.0 < refused));
    let large = Input::Unprepared { action: ActionId(7), why: "x".repeat(60_000) };
    let lost = (0..200).filter(|_| journal.append_input(Timestamp(3), &large).is_err()).count() as u64;
    assert!(lost > 0);
    assert_eq!(journal.losses(), lost);
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    journal.append_input(Timestamp(4), &Input::Tick).unwrap();
    journal.intend(&intent(50_000, 1)).unwrap();
    let open = journal.open_intents();
    drop(journal);
    let mut said = 0;
    let report = records(&path, &mut |_, record| {
        if let Record::Lost { inputs } = record {
            said += inputs;
        }
        Ok(())
    });
    assert!(report.unwrap().problems.is_empty());
    assert_eq!(said, lost);
    let (journal, _) = Journal::open(&path).unwrap();
    assert_eq!(journal.open_intents(), open);
}
