//! The page at `/`: the cluster and its keys, in a browser.

use super::response::Response;

/// All of it is in one file: nothing else is loaded from anywhere.
const PAGE: &[u8] = include_bytes!("page.html");

/// Nothing runs but the script in the page, and it speaks to this node only: a test holds the hashes against it.
const POLICY: &str = "default-src 'none'; connect-src 'self'; \
    script-src 'sha256-uAWj2zB3t7SOdQSk80VrvICEJr8EDLe1iLXOwg8e8Y8='; \
    style-src 'sha256-bSjFm+L18c3csUHmjAuIVqOF8mUXACz1Bq/va0X2C6o='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn page(response: &mut Response<'_>) {
    let fields = [
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", POLICY),
        ("Referrer-Policy", "no-referrer"),
        ("X-Frame-Options", "DENY"),
    ];
    response.send(200, &fields, "text/html; charset=utf-8", PAGE);
}
