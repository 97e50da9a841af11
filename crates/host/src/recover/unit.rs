// SPDX-License-Identifier: Apache-2.0
//! Units: stop and forget one whose file is gone; make a service read what was restored.
//!
//! The files and links of a unit are actions of their own, done before. Everything here may be done again without harm.

use crate::system::supervise::SUPERVISED;
use crate::system::{Result, System, UnitState, UnitVerb};
use thymus_engine::action::{Expected, Facts, Outcome};

pub fn capture_removal(system: &mut dyn System, unit: &str) -> Result<(UnitState, Facts)> {
    let state = system.unit(unit)?;
    let forgotten = state.load == "not-found" && !state.is_active();
    Ok((state, Facts::ready(if forgotten { Expected::AlreadyDone } else { Expected::Yes }, 1)))
}

/// No service manager has unit files of what we supervise ourselves.
pub(super) fn read_units_again(system: &mut dyn System, unit: &UnitState) -> Result<()> {
    if unit.load == SUPERVISED {
        return Ok(());
    }
    system.control(UnitVerb::DaemonReload, "")
}

/// Stops it while the manager still knows it, then makes the manager read its unit files again.
pub fn apply_removal(system: &mut dyn System, unit: &str) -> Result<Outcome> {
    if system.unit(unit)?.is_active() {
        system.control(UnitVerb::Stop, unit)?;
    }
    system.control(UnitVerb::DaemonReload, "")?;
    if system.unit(unit)?.active == "failed" {
        system.control(UnitVerb::ResetFailed, unit)?;
    }
    Ok(Outcome::Success)
}

pub fn capture_reload(system: &mut dyn System, unit: &str) -> Result<(UnitState, Facts)> {
    let state = system.unit(unit)?;
    // Nothing that runs has read the restored file wrongly.
    let idle = !state.is_active() && state.active != "failed";
    let interrupts = state.is_active() && !state.can_reload;
    Ok((state, Facts { interrupts, ..Facts::ready(if idle { Expected::AlreadyDone } else { Expected::Yes }, 1) }))
}

/// The gentlest way: reload where the unit knows how, else restart.
pub fn apply_reload(system: &mut dyn System, unit: &str, before: &UnitState) -> Result<Outcome> {
    read_units_again(system, before)?;
    let verb = if before.can_reload && before.is_active() { UnitVerb::Reload } else { UnitVerb::Restart };
    system.control(verb, unit)?;
    Ok(Outcome::Success)
}

/// The manager reads the unit files again; what was active is active again.
pub fn revert(system: &mut dyn System, unit: &str, before: &UnitState) -> Result<Outcome> {
    read_units_again(system, before)?;
    let now = system.unit(unit)?;
    if before.is_active() && !now.is_active() && matches!(now.load.as_str(), "loaded" | SUPERVISED) {
        system.control(UnitVerb::Start, unit)?;
    } else if before.is_active() && now.is_active() && now.can_reload {
        system.control(UnitVerb::Reload, unit)?;
    }
    Ok(Outcome::Undone)
}
