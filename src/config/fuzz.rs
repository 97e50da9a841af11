// SPDX-License-Identifier: Apache-2.0
//! Hostile configurations.

use super::{Config, DEFAULT_PATH, parse};
use std::path::Path;

/// Hostile texts: a configuration is refused with a place that can be shown, or says the same when it is written again.
/// The text is also taken as the guarded host's list of users.
#[cfg_attr(not(test), allow(dead_code, reason = "`fuzz/` takes this file in"))]
pub(crate) const FUZZ: thymus_engine::fuzz::Target = thymus_engine::fuzz::Target {
    name: "configuration",
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        match parse(Path::new(DEFAULT_PATH), text) {
            Ok(config) => {
                for name in &config.administrators {
                    let _ = name.uid_in(text);
                }
                let again = toml::to_string(&config).map(|text| parse(Path::new(DEFAULT_PATH), &text));
                assert!(again.is_ok_and(|again| again.is_ok_and(|again| again == config)));
            }
            Err(problem) => assert!(!problem.to_string().contains('\u{1b}'), "a message moves nobody's cursor"),
        }
    },
    seeds: || {
        let own = "mode = \"guarded\"\nthis_host = true\nadministrators = [\"alice\"]\n[protect]\ntrees = [\"/etc\"]\n\
            [vault]\nquota_mb = 64\n[[service]]\nunit = \"nginx.service\"\ntcp = 80\nurl = \"http://127.0.0.1/\"\n";
        let usual = toml::to_string(&Config::default()).unwrap_or_default();
        vec![own.into(), usual.into_bytes(), b"alice:x:1000:1000::/home/alice:/bin/sh\n".into()]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_no_reader_panics() {
        assert_eq!(FUZZ.try_all(400), None);
    }
}
