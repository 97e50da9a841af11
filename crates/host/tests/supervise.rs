// SPDX-License-Identifier: Apache-2.0
//! A service on a host without a service manager: its probe says that it is gone, the action starts it again.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thymus_engine::action::Outcome;
use thymus_engine::health::Health;
use thymus_engine::incident::{Decision, Verdict};
use thymus_engine::{Action, ActionId, HostPath, IncidentId, Input, VersionId};
use thymus_host::journal::Journal;
use thymus_host::perform::{Hands, Versions};
use thymus_host::probe::{Questions, Wanted, run};
use thymus_host::scope::Scope;
use thymus_host::system::supervise::{Supervised, Supervisor};
use thymus_host::system::{FileState, System, UnitVerb, linux::Linux};
use thymus_host::warden::Leases;

const UNIT: &str = "dozer.service";

struct NoVersions;

impl Versions for NoVersions {
    fn state(&self, _: VersionId) -> Result<Option<FileState>, String> {
        Err("there is none".to_owned())
    }
    fn content(&self, _: VersionId) -> Result<Vec<u8>, String> {
        Err("there is none".to_owned())
    }
    fn names(&self, _: VersionId) -> Vec<HostPath> {
        Vec::new()
    }
}

#[test]
fn a_service_without_a_manager_is_seen_to_be_gone_and_started_by_the_same_action_as_a_unit() {
    let place = tempfile::Builder::new().prefix("thymus-supervise-").tempdir().unwrap();
    let program = place.path().join("dozer");
    std::fs::write(&program, "#!/bin/sh\necho I am awake\nexec sleep 4714\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let command = vec![program.to_str().unwrap().to_owned()];
    let log = Some(HostPath::from(place.path().join("log").to_str().unwrap()));
    let declared = BTreeMap::from([(UNIT.to_owned(), Supervised { command, user: String::new(), log })]);
    let supervisor = Supervisor::open(&place.path().join("supervised.json"), declared);

    let scope = Scope::this_host(true).unwrap();
    let door = || {
        let system = Linux::new(scope.acting().unwrap(), &place.path().join("keep"), &[]).unwrap();
        system.with_supervisor(supervisor.clone())
    };
    let (journal, _) = Journal::open(&place.path().join("journal")).unwrap();
    let leases = Leases::open(&place.path().join("leases")).unwrap();
    let mut hands = Hands::new(Box::new(door()), journal, Box::new(NoVersions), leases);

    let services = vec![Wanted { unit: UNIT.to_owned(), ..Wanted::default() }];
    let questions = Questions { services, supervisor: supervisor.clone(), ..Questions::default() };
    let (stop, heard) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let scope = &scope;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            run(scope, &questions, &stop, &|answer| {
                if let Health::Service(service) = answer.health {
                    heard.lock().unwrap().push((service.active.clone(), service.result.clone(), service.log.clone()));
                }
                true
            });
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let wait_until = |what: &str, wanted: &str| {
            while heard.lock().unwrap().last().is_none_or(|(active, ..)| active != wanted) {
                assert!(Instant::now() < deadline, "timed out waiting until {what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait_until("it is seen that it does not run", "failed");
        assert_eq!(heard.lock().unwrap().last().unwrap().1, "gone");
        for number in [1, 2] {
            let what = Action::RestartService { unit: UNIT.to_owned() };
            let prepared = hands.prepare(ActionId(number), IncidentId(1), what);
            assert!(matches!(prepared, Input::Prepared { .. }), "{prepared:?}");
            let done = hands.commit(ActionId(number), Verdict { decision: Decision::Permit, reasons: Vec::new() });
            assert_eq!(done, Input::Outcome { action: ActionId(number), outcome: Outcome::Success });
            wait_until("it is seen that it runs", "active");
            assert_eq!(hands.undo_action(ActionId(number)).outcome, Outcome::Undone, "what runs is left so");
            assert!(door().unit(UNIT).unwrap().is_active());
            door().control(UnitVerb::Stop, UNIT).unwrap();
            wait_until("it is seen that it is gone", "failed");
        }
        assert_eq!(heard.lock().unwrap().last().unwrap().2, ["I am awake", "I am awake"]);
        stop.store(true, Ordering::Relaxed);
    });
}
