// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::event::{AuthService, Authentication, Endpoint, NetworkActivity, NetworkActivityId, Traffic};
use std::net::Ipv4Addr;

fn at(host: u8, port: u16) -> Endpoint {
    Endpoint { ip: Ipv4Addr::new(192, 0, 2, host).into(), port }
}

fn listens(pid: u32, local: Endpoint) -> NetworkActivity {
    NetworkActivity {
        activity: NetworkActivityId::Listen,
        actor: key(pid),
        inbound: true,
        local,
        remote: None,
        traffic: None,
        before: false,
    }
}

fn asks(pid: u32, activity: NetworkActivityId, remote: Endpoint) -> Activity {
    Activity::Network(NetworkActivity { activity, inbound: false, remote: Some(remote), ..listens(pid, at(1, 40_000)) })
}

fn is_listener(confidence: Confidence) -> [(String, Confidence); 1] {
    [("foothold/listener".to_owned(), confidence)]
}

#[test]
fn a_door_is_seen_when_a_request_or_borrowed_power_opens_it() {
    let mut world = World::new();
    world.add(60, NGINX, "/usr/bin/nc.openbsd", (33, 33), (InvocationKind::Request, None));
    let opens = |world: &World, pid| found(world, &[Activity::Network(listens(pid, at(1, 4_444)))]);
    assert_eq!(opens(&world, 60), is_listener(Confidence::Medium));
    assert_eq!(opens(&world, INTRUDER), is_listener(Confidence::Medium));
    for pid in [USER, ADMIN, DPKG, UNIT, NGINX, OWN_MANAGER] {
        assert_eq!(opens(&world, pid), [], "{pid}");
    }
    world.run(USER, "/home/alice/server");
    world.run(UNIT, "/tmp/x");
    assert_eq!(opens(&world, USER), is_listener(Confidence::Low));
    assert_eq!(opens(&world, UNIT), is_listener(Confidence::Low));
    let inside = Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port: 4_444 };
    assert_eq!(found(&world, &[Activity::Network(listens(INTRUDER, inside))]), []);
    let old = NetworkActivity { before: true, ..listens(INTRUDER, at(1, 4_444)) };
    assert_eq!(found(&world, &[Activity::Network(old)]), []);
}

fn found_at(world: &World, told: impl IntoIterator<Item = (u64, Activity)>) -> Vec<(String, Confidence)> {
    let (mut detectors, mut out, configuration) = (Detectors::default(), Vec::new(), configuration());
    let context = Context { configuration: &configuration, change_window: false };
    for (time, activity) in told {
        let event = Event { id: EventId(time), time: Timestamp(time), activity };
        detectors.observe(&event, world, &context, &mut out);
    }
    out.into_iter().map(|finding| (finding.analytic, finding.confidence)).collect()
}

/// `count` different ports asked by `pid`, each told `gap_ns` after the one before.
fn scan(world: &World, pid: u32, count: u16, gap_ns: u64, answer: NetworkActivityId) -> Vec<(String, Confidence)> {
    let ask = |port| asks(pid, answer, at(u8::try_from(port % 4).unwrap(), 1 + port));
    found_at(world, (0..count).map(|port| (1 + u64::from(port) * gap_ns, ask(port))))
}

#[test]
fn many_targets_asked_in_vain_within_a_minute_are_a_scan_told_once() {
    use NetworkActivityId::{Fail, Open, Refuse};
    let world = World::new();
    let scanned = |confidence| [("discovery/scan".to_owned(), confidence)];
    let many = u16::try_from(scan::TARGETS).unwrap() * 3;
    for answer in [Refuse, Fail] {
        assert_eq!(scan(&world, INTRUDER, many, 1_000_000, answer), scanned(Confidence::Medium));
    }
    assert_eq!(scan(&world, UNIT, many, 1_000_000, Refuse), scanned(Confidence::Low), "monitoring is shown");
    assert_eq!(scan(&world, ADMIN, many, 1_000_000, Refuse), []);
    assert_eq!(scan(&world, INTRUDER, many, 1_000_000, Open), [], "a crawler finds somebody");
    assert_eq!(scan(&world, INTRUDER, many, scan::WITHIN_NS / 8, Refuse), [], "slow: a blind spot, declared");
    assert_eq!(scan(&world, INTRUDER, u16::try_from(scan::TARGETS).unwrap() - 1, 1, Refuse), []);
    let again: Vec<Activity> = (0..1_000).map(|_| asks(INTRUDER, Refuse, at(1, 5_432))).collect();
    assert_eq!(found(&world, &again), [], "a client that tries its one server again and again");
}

/// `pid` calls after each of `pauses`, in seconds.
fn calls(world: &World, pid: u32, remote: &Endpoint, pauses: &[u64]) -> Vec<(String, Confidence)> {
    let mut now = 1;
    let call = |pause: &u64| {
        now += pause * 1_000_000_000;
        (now, asks(pid, NetworkActivityId::Open, remote.clone()))
    };
    found_at(world, pauses.iter().map(call).collect::<Vec<_>>())
}

#[test]
fn even_calls_of_what_nobody_answers_for_are_a_beacon_told_once() {
    let mut world = World::new();
    world.add(60, NGINX, "/usr/bin/curl", (33, 33), (InvocationKind::Request, None));
    let remote = at(9, 443);
    let even = [30; 40];
    let beacon = |confidence| [("command-and-control/beacon".to_owned(), confidence)];
    assert_eq!(calls(&world, INTRUDER, &remote, &even), beacon(Confidence::Medium));
    assert_eq!(calls(&world, 60, &remote, &even), beacon(Confidence::Medium));
    assert_eq!(calls(&world, USER, &remote, &even), beacon(Confidence::Low));
    for pid in [ADMIN, DPKG, UNIT, NGINX, OWN_MANAGER] {
        assert_eq!(calls(&world, pid, &remote, &even), [], "{pid}");
    }
    world.suspects.push(UNIT);
    assert_eq!(calls(&world, UNIT, &remote, &even), beacon(Confidence::Medium), "a unit that was planted");
    let enough = usize::from(beacon::EVEN) + 1;
    assert_eq!(calls(&world, INTRUDER, &remote, &even[..enough]), beacon(Confidence::Medium));
    assert_eq!(calls(&world, INTRUDER, &remote, &even[..enough - 1]), []);
    let jitter = [30, 26, 35, 30, 34, 27, 30, 33, 29, 31];
    assert_eq!(calls(&world, INTRUDER, &remote, &jitter), beacon(Confidence::Medium));
    let people = [3, 40, 7, 90, 2, 15, 300, 4, 60, 11, 5, 700, 30, 9];
    assert_eq!(calls(&world, INTRUDER, &remote, &people), []);
    assert_eq!(calls(&world, INTRUDER, &remote, &[1; 100]), [], "a load, not a beacon");
    let inside = Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port: 80 };
    assert_eq!(calls(&world, INTRUDER, &inside, &even), []);
}

/// Connections of that host to sshd that end after so many bytes, and then a login.
fn tries(world: &World, count: usize, received: u64) -> Vec<(String, Confidence)> {
    let ended = NetworkActivity {
        activity: NetworkActivityId::Close,
        remote: Some(at(7, 40_000)),
        traffic: Some(Traffic { sent: 2_000, received }),
        ..listens(SSHD, at(1, 22))
    };
    let logon = |session| {
        let (uid, service, actor_uid, src_endpoint) = (ALICE, AuthService::Sshd, None, Some(at(7, 40_001)));
        Activity::Authentication(Authentication {
            logon: true,
            session: key(session),
            actor_uid,
            uid,
            service,
            src_endpoint,
        })
    };
    let mut events = vec![Activity::Network(ended); count];
    events.push(logon(USER));
    events.push(logon(ADMIN));
    found(world, &events)
}

const SSHD: u32 = 70;

#[test]
fn a_login_after_many_tries_in_vain_from_the_same_address_is_seen() {
    let mut world = World::new();
    world.add(SSHD, 1, "/usr/sbin/sshd", (ROOT, ROOT), (InvocationKind::Session, None));
    let seen = |confidence| ("credential-access/brute-force".to_owned(), confidence);
    assert_eq!(tries(&world, 10, 2_100), [seen(Confidence::Medium), seen(Confidence::Low)]);
    assert_eq!(tries(&world, 9, 2_100), [], "too few");
    assert_eq!(tries(&world, 100, 21), [], "somebody looks whether it answers");
    world.run(SSHD, "/usr/sbin/nginx");
    assert_eq!(tries(&world, 100, 2_100), [], "a web server lets nobody in");
}

/// Calls of `pid` that end, each with what they sent, a minute and a half apart.
fn sends(world: &World, pid: u32, sent: impl IntoIterator<Item = u64>) -> Vec<(String, Confidence)> {
    let call = |(number, sent): (u64, u64)| {
        let Activity::Network(call) = asks(pid, NetworkActivityId::Close, at(9, 443)) else { panic!() };
        let traffic = Some(Traffic { received: 90, sent });
        (1 + number * 90_000_000_000, Activity::Network(NetworkActivity { traffic, ..call }))
    };
    found_at(world, (0..).zip(sent).map(call).collect::<Vec<_>>())
}

#[test]
fn far_more_than_a_service_ever_sent_is_found_once_there_is_a_past_to_compare_with() {
    const MUCH: u64 = 40 << 20;
    let mut world = World::new();
    let usual = |count: usize| std::iter::repeat_n(4_000, count);
    let past = 42;
    let volume = |confidence| [("exfiltration/volume".to_owned(), confidence)];
    assert_eq!(sends(&world, UNIT, usual(past).chain([MUCH])), volume(Confidence::Low));
    assert_eq!(sends(&world, UNIT, usual(past).chain([volume::BYTES - 1])), [], "too little to matter");
    assert_eq!(
        sends(&world, UNIT, usual(past).chain([MUCH / 4]).chain(usual(9))),
        volume(Confidence::Low),
        "told once"
    );
    assert_eq!(
        sends(&world, UNIT, [MUCH].into_iter().chain(usual(past)).chain([MUCH * 2])),
        [],
        "it has sent much before"
    );
    assert_eq!(sends(&world, UNIT, usual(20).chain([MUCH])), [], "too few calls");
    assert_eq!(
        sends(&world, UNIT, usual(past).chain([MUCH, MUCH])),
        volume(Confidence::Low),
        "what was too much is no past"
    );
    assert_eq!(sends(&world, INTRUDER, usual(past).chain([MUCH])), [], "a session has no past");
    world.suspects.push(UNIT);
    assert_eq!(sends(&world, UNIT, usual(past).chain([MUCH])), volume(Confidence::Medium));
}
