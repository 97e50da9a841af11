// SPDX-License-Identifier: Apache-2.0
//! Kinds of failure; docs/detectors.md is made from what is said of each.

use serde::{Deserialize, Serialize};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// # What it finds
    /// A service that failed and stays so, or that its manager started three times within a minute.
    /// # Why it matters
    /// It does its work for nobody. A lone restart by the service manager is no finding.
    /// # Blind spots
    /// A service that ends with status 0, or is ended by SIGTERM, looks like one that was stopped on purpose.
    /// # False positives
    /// A service that is started again by hand within two seconds is not reported.
    Crash,
    /// # What it finds
    /// A service that runs and does not answer its probe three times in a row, more than 20 seconds after its last start.
    /// # Why it matters
    /// It hangs, or what it needs does: its manager sees nothing.
    /// # Blind spots
    /// Of a learned service only the port is asked; what it answers is asked where a page or a command is declared.
    /// # False positives
    /// A service that takes longer than two seconds for its health page, for six seconds on end.
    NoAnswer,
    /// # What it finds
    /// A service that failed, or does not answer, whose declared test refuses its configuration.
    /// # Why it matters
    /// A start would be in vain: who changed what since it was last good is named, and put back or proposed back.
    /// # Blind spots
    /// Services without a declared test: what was changed is looked at once a start has not helped.
    /// # False positives
    /// A test that fails for another reason than the configuration.
    BadConfiguration,
    /// # What it finds
    /// A program of a service, or an interpreter's script that it names, that was there and is gone for five seconds.
    /// # Why it matters
    /// The service may still run; its next start fails.
    /// # Blind spots
    /// Libraries and modules that a program loads are missed only once it fails; programs outside of `/usr`, `/opt` and `/srv` that an argument names.
    /// # False positives
    /// A package whose files are away for longer while its service is not stopped.
    MissingProgram,
    /// # What it finds
    /// A file system on which an ordinary user finds less room than `least_free_mb`.
    /// # Why it matters
    /// Services cannot write and fail one after the other. Only files that are declared are deleted.
    /// # Blind spots
    /// Inodes and quotas; file systems that are not named.
    /// # False positives
    /// A short peak of less than two seconds is not reported.
    DiskFull,
    /// # What it finds
    /// A packet filter (nftables) that had rules in force and has none, while its file has some.
    /// # Why it matters
    /// The host is open to whatever the rules kept out.
    /// # Blind spots
    /// Single rules that are taken away; filters of other programs (containers) while they have rules of their own.
    /// # False positives
    /// Somebody who empties it on purpose: announce that with `thymus change begin`.
    FirewallEmptied,
    /// # What it finds
    /// A declared certificate that has expired, as the service shows it.
    /// # Why it matters
    /// Clients turn away. The usual reason is a renewed file that was never read.
    /// # Blind spots
    /// Certificates that nobody declared; chains and names are not checked.
    /// # False positives
    /// A host whose clock is wrong.
    CertificateExpired,
}

impl Kind {
    /// The analytic's name in findings.
    pub(crate) const fn analytic(self) -> &'static str {
        match self {
            Self::Crash => "failure/crash-loop",
            Self::NoAnswer => "failure/no-answer",
            Self::BadConfiguration => "failure/bad-configuration",
            Self::MissingProgram => "failure/missing-program",
            Self::DiskFull => "failure/disk-full",
            Self::FirewallEmptied => "failure/firewall-emptied",
            Self::CertificateExpired => "failure/certificate-expired",
        }
    }
}
