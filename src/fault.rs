//! Fault points: the instants between durable steps, where a test kills the process or fails the
//! call. Without the feature `__faults` each is nothing.

#[cfg(not(feature = "__faults"))]
use std::io;

/// Passes the fault point `name`.
#[cfg(not(feature = "__faults"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where fault points are compiled in")]
pub(crate) const fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "__faults")]
pub(crate) use armed::point;

#[cfg(feature = "__faults")]
pub use armed::{ENVIRONMENT, Fault, arm, arm_from_environment, passed};

#[cfg(feature = "__faults")]
mod armed {
    use std::cell::RefCell;
    use std::io;

    /// `kill:N` or `fail:N`, read by [`arm_from_environment`]; N counts from 1.
    pub const ENVIRONMENT: &str = "CUTOVER_FAULT";

    /// What happens at a fault point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// SIGKILL to this process at the fault point with this number.
        Kill(usize),
        /// An I/O error at the fault point with this number, once.
        Fail(usize),
        /// An I/O error at this fault point and every later one.
        FailFrom(usize),
    }

    thread_local! {
        static STATE: RefCell<(Option<Fault>, Vec<&'static str>)> =
            const { RefCell::new((None, Vec::new())) };
    }

    /// Arms this thread with `fault`, or disarms it, and begins to count from 1.
    pub fn arm(fault: Option<Fault>) {
        STATE.with_borrow_mut(|state| *state = (fault, Vec::new()));
    }

    /// Arms this thread as [`ENVIRONMENT`] says.
    pub fn arm_from_environment() {
        let text = std::env::var(ENVIRONMENT).unwrap_or_default();
        let fault = text.split_once(':').and_then(|(kind, number)| {
            let number = number.parse().ok()?;
            match kind {
                "kill" => Some(Fault::Kill(number)),
                "fail" => Some(Fault::Fail(number)),
                "fail-from" => Some(Fault::FailFrom(number)),
                _ => None,
            }
        });
        arm(fault);
    }

    /// The names of the fault points that this thread has passed since it was armed.
    #[must_use]
    pub fn passed() -> Vec<&'static str> {
        STATE.with_borrow(|state| state.1.clone())
    }

    pub(crate) fn point(name: &'static str) -> io::Result<()> {
        let (fault, number) = STATE.with_borrow_mut(|(fault, passed)| {
            passed.push(name);
            (*fault, passed.len())
        });
        match fault {
            Some(Fault::Kill(at)) if at == number => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
                // The signal is on its way; nothing more may happen in between.
                loop {
                    std::thread::park();
                }
            }
            Some(Fault::Fail(at)) if at == number => Err(injected(name)),
            Some(Fault::FailFrom(from)) if from <= number => Err(injected(name)),
            Some(Fault::Kill(_) | Fault::Fail(_) | Fault::FailFrom(_)) | None => Ok(()),
        }
    }

    fn injected(name: &str) -> io::Error {
        io::Error::other(format!("injected at the fault point '{name}'"))
    }
}
