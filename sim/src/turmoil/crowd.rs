//! The clients: one task for all of them, on a machine of their own, which no fault but a silent stop of their node
//! cuts off.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::net::Net;
use super::shared::{Shared, now_us};
use super::wire::{Conn, Dial, dial, port};
use crate::judge::SessionId;
use crate::plan::size;

/// Runs the clients.
pub(super) async fn run(shared: Rc<RefCell<Shared>>, net: Rc<RefCell<Net>>) -> ::turmoil::Result {
    let (clients, window) = {
        let shared = shared.borrow();
        let setting = &shared.judge.plan().setting;
        (size(setting.clients), size(setting.window_bytes))
    };
    let mut crowd = Crowd { net, lines: (0..clients).map(|_| Line::default()).collect(), scratch: vec![0; window] };
    match poll_fn(|cx| crowd.poll(&mut shared.borrow_mut(), cx)).await {}
}

struct Crowd {
    net: Rc<RefCell<Net>>,
    /// By client.
    lines: Vec<Line>,
    scratch: Vec<u8>,
}

/// A client's connection.
#[derive(Default)]
struct Line {
    session: Option<SessionId>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Down,
    Dialing(Dial),
    Up(Conn),
}

impl Crowd {
    fn poll(&mut self, shared: &mut Shared, cx: &mut Context<'_>) -> Poll<Infallible> {
        shared.crowd = Some(cx.waker().clone());
        let at_us = now_us();
        shared.judge.at(at_us);
        for client in 0..self.lines.len() {
            if shared.judge.failure().is_some() {
                break;
            }
            if self.serve(shared, client, at_us, cx).is_none() {
                shared.seats[client].lost(&mut shared.judge);
                shared.seats[client].knocks = None;
                self.lines[client] = Line::default();
            }
        }
        Poll::Pending
    }

    /// Moves what a client has to send and to read; `None` when it has lost its connection.
    fn serve(&mut self, shared: &mut Shared, client: usize, at_us: u64, cx: &mut Context<'_>) -> Option<()> {
        let line = &mut self.lines[client];
        let seat = &mut shared.seats[client];
        if line.session != seat.session {
            *line = Line { session: seat.session, state: State::Down };
            seat.knocks = seat.session;
            if seat.session.is_some() {
                let (number, retry_ms) = (seat.client.number, shared.judge.plan().setting.dial_retry_ms);
                let home = shared.judge.home(number);
                let at = (shared.addresses[size(home)], port(Some(number)));
                line.state = State::Dialing(dial(Rc::clone(&self.net), retry_ms, None, home, at));
            }
        }
        if let State::Dialing(dial) = &mut line.state
            && let Poll::Ready(stream) = dial.as_mut().poll(cx)
        {
            let net = &mut *self.net.borrow_mut();
            line.state = State::Up(Conn::new(net, stream?, Net::untied(), shared.judge.plan(), shared.serials));
            shared.serials += 1;
            shared.trace.note(at_us, &[31, client as u64], || format!("client {client} is connected"));
        }
        let State::Up(conn) = &mut line.state else { return Some(()) };
        let out = seat.client.out();
        while !out.is_empty() && (!conn.full || conn.poll_writable(cx)) {
            if let Some(count) = conn.write(out).ok()? {
                out.drain(..count);
            }
        }
        while at_us >= seat.deaf_until_us {
            match conn.poll_read(cx, &mut self.scratch) {
                Poll::Pending => break,
                Poll::Ready(Ok(0) | Err(_)) => return None,
                Poll::Ready(Ok(count)) => {
                    let bytes = &self.scratch[..count];
                    shared.trace.note(at_us, &[30, client as u64, count as u64], || {
                        format!("client {client} reads {}", bytes.escape_ascii())
                    });
                    shared.trace.bytes(bytes);
                    seat.client.received(at_us, bytes);
                }
            }
        }
        Some(())
    }
}
