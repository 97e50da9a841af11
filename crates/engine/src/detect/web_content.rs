// SPDX-License-Identifier: Apache-2.0
//! `impact/web-content`

use super::place::is_within_any;
use super::{Claim, Detector, FILE, Look, Meta};
use crate::event::Confidence;
use crate::path::HostPath;
use serde::{Deserialize, Serialize};

/// # What it finds
/// Content that a web server shows, changed or deleted from a login session or by the web server's own processes.
/// # Why it matters
/// Defacement, and pages that attack their readers (ATT&CK T1491.002).
/// # Blind spots
/// Content in databases; web roots elsewhere.
/// # False positives
/// Authors who publish what they own are shown (low).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WebContent;

impl Detector for WebContent {
    const META: Meta = Meta { name: "impact/web-content", technique: "T1491.002", class_uid: FILE };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let shown = |path: &&HostPath| is_within_any(path, &[b"/var/www", b"/srv/www", b"/srv/http", b"/usr/share/nginx/html"]);
        let path = look.arrival.map(|arrival| arrival.path).filter(shown);
        let path = path.or_else(|| look.departure().filter(shown))?;
        Some(look.claim(look.foothold(Confidence::Medium)?, path, "was changed"))
    }
}
