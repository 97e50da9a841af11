// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::action::{Extent, RestoreFile};
use crate::event::{Mode, Origin, User};
use crate::id::{ActionId, BootId, EventId, FileKey, FindingId, IncidentId, VersionId};
use proptest::prelude::*;

const SCHEMA: &str = include_str!("../../ocsf/schema.json");

static PARSED: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| serde_json::from_str(SCHEMA).unwrap());

fn schema() -> &'static Value {
    &PARSED
}

fn clock() -> Clock {
    Clock { boot_to_unix_ns: 1_700_000_000_000_000_000, hostname: "twin".to_owned() }
}

/// Every rule of the schema that `value` breaks, with its place.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let class = &schema["classes"][value["class_uid"].to_string()];
    if class.is_null() {
        return vec![format!("no class {}", value["class_uid"])];
    }
    let profiles: Vec<&str> =
        value["metadata"]["profiles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut pending = vec![(String::new(), value, class)];
    while let Some((place, value, rules)) = pending.pop() {
        let (Some(members), attributes) = (value.as_object(), &rules["attributes"]) else {
            faults.push(format!("{place}: not an object"));
            continue;
        };
        for (name, rule) in attributes.as_object().unwrap() {
            let applies = rule["profile"].as_str().is_none_or(|profile| profiles.contains(&profile));
            if rule["requirement"] == "required" && applies && !members.contains_key(name) {
                faults.push(format!("{place}.{name}: required"));
            }
        }
        let choice = rules["constraints"]["at_least_one"].as_array();
        let chosen =
            |choice: &Vec<Value>| choice.iter().filter_map(Value::as_str).any(|name| members.contains_key(name));
        if let Some(choice) = choice.filter(|choice| !chosen(choice)) {
            faults.push(format!("{place}: at least one of {choice:?}"));
        }
        for (name, member) in members {
            let (rule, place) = (&attributes[name], format!("{place}.{name}"));
            if rule.is_null() {
                faults.push(format!("{place}: unknown"));
                continue;
            }
            if rule["deprecated"] == true {
                faults.push(format!("{place}: deprecated"));
            }
            if let Some(profile) = rule["profile"].as_str().filter(|profile| !profiles.contains(profile)) {
                faults.push(format!("{place}: of profile {profile}, which is not declared"));
            }
            let elements: Vec<&Value> = match (rule["array"] == true, member.as_array()) {
                (true, Some(elements)) => elements.iter().collect(),
                (false, None) => vec![member],
                (true, None) | (false, Some(_)) => {
                    faults.push(format!("{place}: an array where none is wanted, or none where one is"));
                    continue;
                }
            };
            for element in elements {
                match rule["object"].as_str() {
                    Some(object) => pending.push((place.clone(), element, &schema["objects"][object])),
                    None => faults.extend(wrong_value(rule, element).map(|why| format!("{place}: {why}"))),
                }
            }
        }
    }
    let uid = value["class_uid"].as_u64().unwrap() * 100 + value["activity_id"].as_u64().unwrap();
    if value["type_uid"] != uid {
        faults.push(format!(".type_uid: expected {uid}"));
    }
    faults
}

fn wrong_value(rule: &Value, value: &Value) -> Option<String> {
    let fits = match rule["type"].as_str().unwrap() {
        "string_t" => value
            .as_str()
            .is_some_and(|text| rule["max_len"].as_u64().is_none_or(|most| text.chars().count() as u64 <= most)),
        "integer_t" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok() && in_range(rule, number)),
        "long_t" => value.as_i64().is_some_and(|number| in_range(rule, number)),
        "float_t" => value.is_number(),
        "boolean_t" => value.is_boolean(),
        "object" => value.is_object(),
        "json_t" => true,
        other => panic!("the schema has a type {other}"),
    };
    if !fits {
        return Some(format!("{value} is no {}", rule["type"]));
    }
    let values = rule["enum"].as_array()?;
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    (!values.iter().any(|known| *known == text)).then(|| format!("{text} is none of its values"))
}

fn in_range(rule: &Value, number: i64) -> bool {
    let Some([low, high]) = rule["range"].as_array().and_then(|range| range.first_chunk::<2>()) else { return true };
    (low.as_i64().unwrap()..=high.as_i64().unwrap()).contains(&number)
}

// ---- any event ----

fn path() -> impl Strategy<Value = HostPath> {
    prop_oneof![
        proptest::collection::vec(1u8..=255, 0..60)
            .prop_map(|bytes| HostPath::new(&[b"/".as_slice(), &bytes].concat())),
        Just(HostPath::from("/")),
        Just(HostPath::from("/etc/passwd")),
    ]
}

fn key() -> impl Strategy<Value = ProcessKey> {
    (any::<u64>(), any::<u32>(), time()).prop_map(|(boot, pid, start_time)| ProcessKey {
        boot: BootId(boot),
        pid,
        start_time,
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn file_of() -> impl Strategy<Value = File> {
    (path(), any::<(u64, u64, u32)>())
        .prop_map(|(path, (device, inode, generation))| File { path, key: FileKey { device, inode, generation } })
}

fn peer() -> impl Strategy<Value = Option<Endpoint>> {
    proptest::option::of((any::<bool>(), any::<u32>(), any::<u128>(), any::<u16>()).prop_map(|(old, v4, v6, port)| {
        let ip = if old { std::net::Ipv4Addr::from(v4).into() } else { std::net::Ipv6Addr::from(v6).into() };
        Endpoint { ip, port }
    }))
}

fn any_process() -> impl Strategy<Value = Activity> {
    use ProcessActivityId as Id;
    let id = prop_oneof![
        Just(Id::Fork),
        Just(Id::Exec),
        Just(Id::Terminate),
        Just(Id::Inject),
        Just(Id::SetUserId),
        Just(Id::Inventory),
    ];
    let who = (key(), key(), key(), proptest::option::of(file_of()), any::<(u32, u32, u32, u32)>());
    let more = (
        proptest::collection::vec(any::<String>(), 0..4),
        proptest::option::of(path()),
        proptest::option::of(any::<String>()),
        any::<u8>(),
        any::<bool>(),
        peer(),
        proptest::option::of(any::<i32>()),
    );
    (id, who, more).prop_map(|(activity, (actor, key, parent, file, user), more)| {
        let (cmd_line, working_directory, unit, socket_stdio, fileless, src_endpoint, exit_code) = more;
        let user = User { uid: user.0, euid: user.1, gid: user.2, login_uid: user.3 };
        let origin = working_directory.clone().map(|path| Origin { path, version: VersionId(u64::from(user.uid)) });
        let process = Process {
            key,
            parent,
            file,
            cmd_line,
            working_directory,
            user,
            unit,
            socket_stdio,
            fileless,
            origin,
            src_endpoint,
        };
        Activity::Process(ProcessActivity { activity, actor, process, exit_code })
    })
}

fn any_file() -> impl Strategy<Value = Activity> {
    use FileActivityId as Id;
    let id = prop_oneof![
        Just(Id::Create),
        Just(Id::Update),
        Just(Id::Close),
        Just(Id::Delete),
        Just(Id::Rename),
        Just(Id::SetAttributes),
        Just(Id::SetSecurity),
        Just(Id::Open),
        Just(Id::Link),
    ];
    let kind = prop_oneof![
        Just(FileKind::Regular),
        Just(FileKind::Directory),
        Just(FileKind::Symlink),
        Just(FileKind::Other),
    ];
    let change = || {
        proptest::option::of(any::<(u64, bool, u64, bool)>().prop_map(|(before, created, after, removed)| Change {
            before: VersionId(before),
            created,
            after: VersionId(after),
            removed,
        }))
    };
    let mode = proptest::option::of(any::<(u16, u32, u32)>().prop_map(|(bits, uid, gid)| Mode { bits, uid, gid }));
    (id, key(), file_of(), kind, proptest::option::of(path()), change(), change(), mode).prop_map(
        |(activity, actor, file, kind, file_result, change, change_result, mode)| {
            Activity::File(FileActivity {
                activity,
                actor,
                file,
                kind,
                file_result,
                change,
                change_result,
                mode,
                target: None,
            })
        },
    )
}

fn any_network() -> impl Strategy<Value = Activity> {
    let id = prop_oneof![
        Just(NetworkActivityId::Open),
        Just(NetworkActivityId::Close),
        Just(NetworkActivityId::Fail),
        Just(NetworkActivityId::Refuse),
        Just(NetworkActivityId::Listen),
    ];
    let traffic = proptest::option::of(
        any::<(u32, u32)>().prop_map(|(to, from)| Traffic { received: to.into(), sent: from.into() }),
    );
    let local = peer().prop_map(|peer| peer.unwrap_or(Endpoint { ip: std::net::Ipv4Addr::LOCALHOST.into(), port: 22 }));
    (id, key(), any::<bool>(), local, peer(), traffic, any::<bool>()).prop_map(
        |(activity, actor, inbound, local, remote, traffic, before)| {
            Activity::Network(NetworkActivity { activity, actor, inbound, local, remote, traffic, before })
        },
    )
}

fn any_authentication() -> impl Strategy<Value = Activity> {
    let service =
        prop_oneof![Just(AuthService::Sshd), Just(AuthService::Su), Just(AuthService::Sudo), Just(AuthService::Login),];
    (any::<bool>(), key(), service, proptest::option::of(any::<u32>()), any::<u32>(), peer()).prop_map(
        |(logon, session, service, actor_uid, uid, src_endpoint)| {
            Activity::Authentication(Authentication { logon, session, service, actor_uid, uid, src_endpoint })
        },
    )
}

fn any_conclusion() -> impl Strategy<Value = Activity> {
    let confidence = prop_oneof![Just(Confidence::Low), Just(Confidence::Medium), Just(Confidence::High)];
    let stage = prop_oneof![
        Just(Stage::Open),
        Just(Stage::Contained),
        Just(Stage::Restored),
        Just(Stage::Healed),
        Just(Stage::Stuck),
    ];
    let technique = prop_oneof![Just("T1098.004"), Just("T1620")];
    let finding =
        (any::<u64>(), any::<String>(), technique, confidence, key(), proptest::collection::vec(path(), 0..4));
    prop_oneof![
        finding.prop_map(|(id, title, technique, confidence, process, paths)| {
            Activity::Finding(Finding {
                id: FindingId(id),
                analytic: title.clone(),
                technique: technique.to_owned(),
                title,
                confidence,
                event: EventId(id),
                process,
                paths,
            })
        }),
        (any::<u64>(), stage, any::<String>()).prop_map(|(incident, stage, message)| {
            Activity::Incident(IncidentFinding { incident: IncidentId(incident), stage, message })
        }),
        (any::<String>(), any::<u64>(), time(), time())
            .prop_map(|(source, count, since, until)| Activity::Loss(Loss { source, count, since, until })),
    ]
}

fn any_remediation() -> impl Strategy<Value = Activity> {
    let processes = || proptest::collection::vec(key(), 0..4);
    let what = prop_oneof![
        processes().prop_map(|processes| Action::SuspendProcesses { processes }),
        processes().prop_map(|processes| Action::TerminateProcesses { processes }),
        (key(), processes()).prop_map(|(leader, processes)| Action::EndSession { leader, processes }),
        any::<std::net::IpAddr>().prop_map(|address| Action::FilterTraffic {
            address,
            extent: Extent::All,
            lease_ns: 1
        }),
        path().prop_map(|path| Action::RestoreFile(RestoreFile {
            path,
            base: VersionId(1),
            later: Vec::new(),
            append_only: false,
            again: false,
            whole: false,
        })),
        path().prop_map(|path| Action::QuarantineFile { path, expected: VersionId(1) }),
        any::<String>().prop_map(|unit| Action::RemoveUnit { unit }),
        any::<String>().prop_map(|unit| Action::ReloadService { unit }),
        any::<String>().prop_map(|unit| Action::RestartService { unit }),
        path().prop_map(|path| Action::LoadFirewall { path }),
        path().prop_map(|path| Action::RenewCertificate { path }),
        path().prop_map(|path| Action::FreeSpace { paths: vec![path] }),
    ];
    let outcome = prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::DoesNotExist),
        Just(Outcome::Undone),
        any::<String>().prop_map(Outcome::Reverted),
        any::<String>().prop_map(Outcome::Failed),
    ];
    (any::<u64>(), any::<u64>(), what, outcome).prop_map(|(incident, action, what, outcome)| {
        Activity::Remediation(Remediation { incident: IncidentId(incident), action: ActionId(action), what, outcome })
    })
}

fn any_hearsay() -> impl Strategy<Value = Activity> {
    let text = || proptest::option::of(any::<String>());
    let said = prop_oneof![
        (any::<bool>(), text(), text(), text()).prop_map(|(success, user, method, fingerprint)| {
            Said::Authentication(Login { success, user, method, key_type: None, fingerprint })
        }),
        (text(), text(), proptest::option::of(any::<u16>()), text()).prop_map(
            |(http_method, path, status, message)| {
                Said::Http(Request { http_method, path, status, message, ..Request::default() })
            }
        ),
        any::<String>().prop_map(|message| Said::Other { message }),
    ];
    (said, path(), text(), peer(), any::<String>()).prop_map(|(said, source, original_time, src_endpoint, raw_data)| {
        let parser = "sshd".to_owned();
        Activity::Hearsay(Box::new(Hearsay { parser, source, original_time, src_endpoint, said, raw_data }))
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let activity = prop_oneof![
        any_process(),
        any_file(),
        any_network(),
        any_authentication(),
        any_conclusion(),
        any_remediation(),
        any_hearsay()
    ];
    (any::<u64>(), time(), activity).prop_map(|(id, time, activity)| Event { id: EventId(id), time, activity })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_event_is_valid_by_the_published_schema(event in any_event()) {
        let value = to_ocsf(&event, &clock());
        let faults = faults(schema(), &value);
        prop_assert!(faults.is_empty(), "{faults:#?}\n{value:#}");
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = schema();
    let event = Event {
        id: EventId(1),
        time: Timestamp(0),
        activity: Activity::Incident(IncidentFinding {
            incident: IncidentId(1),
            stage: Stage::Open,
            message: String::new(),
        }),
    };
    let good = to_ocsf(&event, &clock());
    assert_eq!(faults(schema, &good), Vec::<String>::new());
    let broken = |change: fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        faults(schema, &value)
    };
    assert_eq!(broken(|value| value["activity_id"] = json!(50)).len(), 2, "value, and type_uid");
    assert_eq!(broken(|value| value["extra"] = json!(1)), [".extra: unknown"]);
    assert_eq!(broken(|value| value["time"] = json!("now")).len(), 1);
    assert_eq!(broken(|value| value["metadata"]["version"] = Value::Null).len(), 1);
    assert_eq!(broken(|value| drop(value.as_object_mut().unwrap().remove("status_id"))), [".status_id: required"]);
    assert_eq!(broken(|value| drop(value.as_object_mut().unwrap().remove("assignee"))).len(), 1);
    assert_eq!(broken(|value| value["metadata"]["profiles"] = json!([])).len(), 1, "the device is of a profile");
    assert_eq!(broken(|value| value["finding_info_list"] = json!({})).len(), 1);
    assert_eq!(broken(|value| value["finding_info_list"] = json!([{}])), [".finding_info_list.uid: required"]);
}

#[test]
fn the_schema_is_the_version_that_is_claimed() {
    assert_eq!(schema()["version"], VERSION);
}

#[test]
fn the_source_of_a_connection_is_who_asked_for_it_and_bytes_count_from_there() {
    let at = |host, port| Endpoint { ip: std::net::Ipv4Addr::new(192, 0, 2, host).into(), port };
    let of = |inbound| {
        let told = NetworkActivity {
            activity: NetworkActivityId::Close,
            actor: ProcessKey::default(),
            inbound,
            local: at(1, 22),
            remote: Some(at(2, 40_000)),
            traffic: Some(Traffic { received: 5, sent: 700 }),
            before: false,
        };
        to_ocsf(&Event { id: EventId(1), time: Timestamp(0), activity: Activity::Network(told) }, &clock())
    };
    let (asked, asks) = (of(true), of(false));
    assert_eq!((&asked["src_endpoint"]["ip"], &asks["src_endpoint"]["ip"]), (&json!("192.0.2.2"), &json!("192.0.2.1")));
    assert_eq!((&asked["traffic"]["bytes_out"], &asked["traffic"]["bytes_in"]), (&json!(5), &json!(700)));
    assert_eq!((&asks["traffic"]["bytes_out"], &asks["traffic"]["bytes_in"]), (&json!(700), &json!(5)));
}

#[test]
fn time_is_unix_milliseconds() {
    let loss = Loss { source: "x".to_owned(), count: 1, since: Timestamp(0), until: Timestamp(2_000_000) };
    let event = Event { id: EventId(1), time: Timestamp(1_500_000_000), activity: Activity::Loss(loss) };
    let value = to_ocsf(&event, &clock());
    assert_eq!(value["time"], 1_700_000_001_500_u64);
    assert_eq!(value["end_time"], 1_700_000_000_002_u64);
    assert_eq!((&value["class_uid"], &value["type_uid"]), (&json!(0), &json!(99)));
}
