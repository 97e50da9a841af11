// SPDX-License-Identifier: Apache-2.0
//! The door onto a world in memory, with faults.
