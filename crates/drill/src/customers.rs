// SPDX-License-Identifier: Apache-2.0
//! Customers of the shop: hosts outside that ask for pages and for the stock, all the time.

use crate::interrupt;
use crate::outside::{Outside, host};
use crate::random::Random;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const HOSTS: std::ops::Range<u8> = 10..16;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What is asked for, and what must be in the answer.
const QUESTIONS: [(&str, &str); 4] = [
    ("/index.html", "The shop"),
    ("/contact.html", "The shop"),
    ("/cgi-bin/stock?item=lamp", "lamp 14"),
    ("/cgi-bin/stock?item=mirror", "mirror 7"),
];

/// Until it is over; gives whose questions were not answered, with how.
pub(crate) fn come(outside: &Outside, seed: u64, over: &AtomicBool) -> Vec<(String, String)> {
    let mut random = Random::new(seed ^ 0x6375_7374_6f6d_6572);
    let mut harmed = Vec::new();
    while !over.load(Ordering::SeqCst) && interrupt::check().is_ok() {
        let who = HOSTS.start + u8::try_from(random.below(u64::from(HOSTS.end - HOSTS.start))).unwrap_or(0);
        harmed.extend(ask(outside, who, *random.pick(&QUESTIONS)));
        std::thread::sleep(Duration::from_millis(random.between(50, 400)));
    }
    harmed
}

/// Each of them, one question.
pub(crate) fn once_more(outside: &Outside) -> Vec<(String, String)> {
    HOSTS.zip(QUESTIONS.iter().cycle()).filter_map(|(who, question)| ask(outside, who, *question)).collect()
}

fn ask(outside: &Outside, who: u8, (path, wanted): (&str, &str)) -> Option<(String, String)> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: shop\r\n\r\n");
    let why = match outside.ask(host(who), 8000, request.as_bytes(), ANSWER_LIMIT) {
        Ok(answer) if answer.contains(wanted) => return None,
        Ok(answer) => answer.lines().next().unwrap_or("an empty answer").to_owned(),
        Err(error) => error.to_string(),
    };
    Some((format!("customer {} asks for {path}", host(who)), why))
}
