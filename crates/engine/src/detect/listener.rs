// SPDX-License-Identifier: Apache-2.0
//! `foothold/listener`

use super::place::is_anybodys;
use super::{Authority, Claim, Detector, Look, Meta, NETWORK};
use crate::event::{Confidence, NetworkActivityId};
use crate::incident::InvocationKind;
use serde::{Deserialize, Serialize};

/// # What it finds
/// A program that begins to listen for connections from outside, started by a web server's request, by root's power in the
/// session of somebody who is no administrator, or out of a place where anybody may put programs.
/// # Why it matters
/// A door that was opened from inside is a way back in (ATT&CK T1571).
/// # Blind spots
/// Listeners on loopback (a tunnel leads there), UDP, services that the host starts by itself from where programs belong, and
/// who takes over the socket of a service.
/// # False positives
/// A developer's own server in the own session is not looked at, out of the own home it is shown (low). Somebody who uses
/// root's power and is not named as an administrator: medium, so that it never acts alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listener;

impl Detector for Listener {
    const META: Meta = Meta { name: "foothold/listener", technique: "T1571", class_uid: NETWORK };

    fn observe(&mut self, look: &Look<'_>) -> Option<Claim> {
        let network = look.network()?;
        if network.activity != NetworkActivityId::Listen || network.before || network.local.ip.is_loopback() {
            return None;
        }
        let invocation = look.invocation()?;
        let from_anywhere = look.program().is_some_and(is_anybodys).then_some(Confidence::Low);
        let confidence = match (invocation.kind, look.authority()) {
            (_, Authority::ChangeWindow | Authority::Administrator | Authority::ChangeTool) => None,
            (InvocationKind::Request, _) => Some(Confidence::Medium),
            (InvocationKind::Unit(unit), _) if unit.starts_with("user@") => None,
            (_, Authority::Machinery) | (InvocationKind::Unit(_), _) => from_anywhere,
            (InvocationKind::Session | InvocationKind::Cron | InvocationKind::Other, Authority::Nobody) => {
                if look.is_borrowed_power() { Some(Confidence::Medium) } else { from_anywhere }
            }
        };
        let (ip, port) = (network.local.ip, network.local.port);
        Some(look.deed(confidence?, &format!("port {port} of {ip} is listened on")))
    }
}
