// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn good(_: &Declared) -> Result<(), String> {
    Ok(())
}

#[test]
fn whatever_the_bytes_no_reader_panics() {
    assert_eq!(FUZZ.try_all(400), None);
}

#[test]
fn all_that_can_be_declared_is_read() {
    let declared = parse(Path::new(USUAL_PATH), EXAMPLE).unwrap();
    let fields = |item: &str| match &declared.items[&Item::try_from(item.to_owned()).unwrap()] {
        Wish::Absent => vec!["absent".to_owned()],
        Wish::Present(fields) => {
            fields.iter().map(|(field, value)| format!("{field}={}", value.as_deref().unwrap_or("any"))).collect()
        }
    };
    assert_eq!(fields("service:nginx.service"), ["active=yes", "enabled=yes"]);
    assert_eq!(fields("service:telnet.socket"), ["absent"]);
    assert_eq!(fields("listener:tcp 127.0.0.1:80"), ["program=nginx"]);
    assert_eq!(fields("listener:tcp [::]:22"), ["program=any"]);
    assert_eq!(fields("account:alice"), ["groups=adm,sudo", "keys=1", "password=locked"]);
    assert_eq!(fields("package:openssl"), ["version=any"]);
    assert_eq!(fields("setting:loader /etc/ld.so.preload"), ["absent"]);
    assert_eq!(declared.complete, BTreeSet::from([Section::Listeners]));
}

#[test]
fn a_broken_or_senseless_wanted_file_never_replaces_the_last_good_one() {
    let place = tempfile::Builder::new().prefix("thymus-wanted-").tempdir().unwrap();
    let (file, state) = (place.path().join("wanted.toml"), place.path().join("state"));
    let (declared, problem) = load(&file, &state, good);
    assert_eq!(declared, None);
    assert!(problem.unwrap().to_string().contains("no such file"));

    std::fs::write(&file, EXAMPLE).unwrap();
    let (first, problem) = load(&file, &state, good);
    assert_eq!((first.is_some(), problem), (true, None));
    for (text, why) in [("[packages]\nnginx = 3\n", ":2:9: invalid type"), (EXAMPLE, "it makes 9 of 10 packages")] {
        std::fs::write(&file, text).unwrap();
        let (declared, problem) = load(&file, &state, |_| Err("it makes 9 of 10 packages unwanted".into()));
        let problem = problem.unwrap();
        assert_eq!(declared, first);
        assert!(problem.to_string().contains(why), "{problem}");
        assert!(problem.instead.contains("last-good/wanted.toml"), "{problem}");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(load(&file, &state, good).0, first);
}
