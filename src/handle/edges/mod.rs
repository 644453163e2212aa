//! Every move of every handle, legal or not, as a doctest: what a state does not have does not
//! compile, and beside it stands the same program, but for one word, that does.
//!
//! A cell of a table is `ok`, or the code of the error that stops the program. A stable `rustdoc`
//! finds out only that it is stopped; the codes are compared by
//! `RUSTC_BOOTSTRAP=1 cargo test --all-features --doc`.
//!
//! The tests in `edges/agree.rs` read the crate's own sources: a method that is added to a handle, or
//! taken from it, and a new ticket, fail them as long as the tables do not say so.

/// How a doctest begins: it compiles, or it is stopped by this error.
#[cfg(doctest)]
macro_rules! fence {
    (ok) => {
        "```\n"
    };
    ($code:ident) => {
        concat!("```compile_fail,", stringify!($code), "\n")
    };
}

/// A program that is given two handles of a state.
#[cfg(doctest)]
macro_rules! program {
    ($state:ident: $($line:expr),*) => {
        concat!(
            "use cutover::{Handle, Observer, ticket::*};\n",
            "type State = cutover::", stringify!($state), ";\n",
            "fn edge(mut handle: Handle<State>, other: Handle<State>, observer: &mut dyn Observer) {\n",
            $("    let _ = ", $line, ";\n",)*
            "}\n```"
        )
    };
}

/// Whether the handle can be used again after a method that `takes` it, or only `looks`.
#[cfg(doctest)]
macro_rules! again {
    (takes) => {
        fence!(E0382)
    };
    (looks) => {
        fence!(ok)
    };
}

#[cfg(doctest)]
macro_rules! edge {
    ($call:expr, $kind:ident, $state:ident, ok) => {
        #[doc = concat!(fence!(ok), program!($state: $call))]
        #[doc = concat!(again!($kind), program!($state: $call, "handle.state()"))]
        #[doc = concat!(fence!(ok), program!($state: $call, "other.state()"))]
        pub struct $state;
    };
    ($call:expr, $kind:ident, $state:ident, $code:ident) => {
        #[doc = concat!(fence!($code), program!($state: $call))]
        pub struct $state;
    };
}

/// The table of the methods: whether each takes the handle or only looks, and what it wants of the
/// protocol.
macro_rules! edges {
    ($($row:ident $call:literal $kind:ident $intent:ident
        [$fresh:ident $migrating:ident $committed:ident $tombstoned:ident $rerun:ident];)*) => {
        $(
            #[cfg(doctest)]
            mod $row {
                edge!(concat!("handle.", $call), $kind, Fresh, $fresh);
                edge!(concat!("handle.", $call), $kind, Migrating, $migrating);
                edge!(concat!("handle.", $call), $kind, Committed, $committed);
                edge!(concat!("handle.", $call), $kind, Tombstoned, $tombstoned);
                edge!(concat!("handle.", $call), $kind, RerunAllowed, $rerun);
            }
        )*
        #[cfg(test)]
        const ROWS: &[Row] = &[$(Row {
            call: $call,
            kind: stringify!($kind),
            intent: stringify!($intent),
            cells: [
                stringify!($fresh), stringify!($migrating), stringify!($committed),
                stringify!($tombstoned), stringify!($rerun),
            ],
        }),*];
    };
}

edges! {
    //                                                         [Fresh Migra Commi Tombs Rerun]
    state           "state()"                    looks Nothing [ok    ok    ok    ok    ok   ];
    into_kv         "into_kv()"                  takes UseKv   [ok    E0599 E0599 E0599 E0599];
    begin           "begin()"                    takes Begin   [ok    E0599 E0599 E0599 E0599];
    begin_observed  "begin_observed(observer)"   takes Begin   [ok    E0599 E0599 E0599 E0599];
    check           "check()"                    looks Nothing [ok    ok    E0599 ok    ok   ];
    is_rerun        "is_rerun()"                 looks Nothing [E0599 ok    E0599 E0599 E0599];
    is_copied       "is_copied()"                looks Nothing [E0599 ok    E0599 E0599 E0599];
    prepare         "prepare(observer)"          takes Prepare [E0599 ok    E0599 E0599 E0599];
    run             "run(observer)"              takes Copy    [E0599 ok    E0599 E0599 E0599];
    abort           "abort()"                    takes Abort   [E0599 ok    E0061 E0599 E0599];
    abort_committed "abort(AbortCommitted::losing_the_committed_copy())"
                                          takes AbortCommitted [E0599 E0061 ok    E0599 E0599];
    finish          "finish()"                   takes Finish  [E0599 E0599 ok    E0599 E0599];
    finish_observed "finish_observed(observer)"  takes Finish  [E0599 E0599 ok    E0599 E0599];
    into_sql        "into_sql()"                 takes UseSql  [E0599 E0599 E0599 ok    E0599];
    verify          "verify(observer)"           looks Nothing [E0599 E0599 E0599 ok    E0599];
    freed           "freed()"                    looks Nothing [E0599 E0599 E0599 ok    E0599];
    skipped         "skipped()"                  looks Nothing [ok    ok    ok    ok    ok   ];
    loss            "loss()"                     looks Nothing [E0599 E0599 E0599 E0599 ok   ];
    reclaim         "reclaim(Reclaim::losing_the_way_back())"
                                                 takes Reclaim [E0599 E0599 E0599 ok    E0599];
    rerun           "rerun(Rerun::losing_writes_made_in_sql())"
                                                 takes Rerun   [E0599 E0599 E0599 E0599 ok   ];
    restore_kv      "restore_kv(RestoreKv::losing_writes_made_in_sql())"
                                               takes RestoreKv [E0599 E0599 E0599 E0599 ok   ];
}

/// Two programs that differ in one word: the one with the first is stopped, the other compiles.
#[cfg(doctest)]
macro_rules! pairs {
    ($($name:ident: $before:expr, [$code:ident $wrong:expr, ok $right:expr], $after:expr;)*) => {$(
        #[doc = concat!(fence!($code), $before, $wrong, $after, "\n```")]
        #[doc = concat!(fence!(ok), $before, $right, $after, "\n```")]
        pub struct $name;
    )*};
}

/// The table of the tickets: what loses something, without a ticket and with each.
macro_rules! tickets {
    ($($own:ident $constructor:literal: $given:literal, $call:literal,
        [$without:ident $($ticket:ident $cell:ident)*];)*) => {
        $(
            #[cfg(doctest)]
            pub mod $own {
                #[doc = concat!(fence!($without), "fn edge(", $given, ") {\n    let _ = ", $call, ");\n}\n```")]
                pub struct Without;
                $(
                    #[doc = concat!(
                        fence!($cell),
                        "fn edge(", $given, ", ticket: cutover::ticket::", stringify!($ticket), ") {\n",
                        "    let _ = ", $call, "ticket);\n}\n```"
                    )]
                    pub struct $ticket;
                )*
                ticket!($own $constructor);
            }
        )*
        /// Each ticket, what the call without any is stopped by, and what it is with each.
        #[cfg(test)]
        pub(super) const TICKETS: &[(&str, &str, &[(&str, &str)])] = &[$((
            stringify!($own),
            stringify!($without),
            &[$((stringify!($ticket), stringify!($cell))),*],
        )),*];
    };
}

/// A ticket is made by the words that name what is lost, and is used once.
#[cfg(doctest)]
macro_rules! ticket {
    ($own:ident $constructor:literal) => {
        pairs! {
            MadeByItsField: concat!("let _ = cutover::ticket::", stringify!($own)),
                [E0603 "(())", ok concat!("::", $constructor, "()")], ";";
            MadeByDefault: "fn is<T: ", [E0277 "Default", ok "std::fmt::Debug"],
                concat!(">() {}\nis::<cutover::ticket::", stringify!($own), ">();");
            Cloned: "fn is<T: ", [E0277 "Clone", ok "std::fmt::Debug"],
                concat!(">() {}\nis::<cutover::ticket::", stringify!($own), ">();");
            UsedTwice: concat!(
                    "use cutover::ticket::", stringify!($own), " as T;\n",
                    "fn edge(ticket: T, other: T) {\n    drop(ticket);\n    drop("
                ), [E0382 "ticket", ok "other"], ");\n}";
        }
    };
}

mod without_or_with_another_ticket {
    tickets! {
        AbortCommitted "losing_the_committed_copy":
            "handle: cutover::Handle<cutover::Committed>", "handle.abort(",
            [E0061 AbortCommitted ok    Rerun E0308 RestoreKv E0308 Reclaim E0308 DiscardRecord E0308 ForgetRecord E0308 ReplaceTarget E0308];
        Rerun "losing_writes_made_in_sql":
            "handle: cutover::Handle<cutover::RerunAllowed>", "handle.rerun(",
            [E0061 AbortCommitted E0308 Rerun ok    RestoreKv E0308 Reclaim E0308 DiscardRecord E0308 ForgetRecord E0308 ReplaceTarget E0308];
        RestoreKv "losing_writes_made_in_sql":
            "handle: cutover::Handle<cutover::RerunAllowed>", "handle.restore_kv(",
            [E0061 AbortCommitted E0308 Rerun E0308 RestoreKv ok    Reclaim E0308 DiscardRecord E0308 ForgetRecord E0308 ReplaceTarget E0308];
        Reclaim "losing_the_way_back":
            "handle: cutover::Handle<cutover::Tombstoned>", "handle.reclaim(",
            [E0061 AbortCommitted E0308 Rerun E0308 RestoreKv E0308 Reclaim ok    DiscardRecord E0308 ForgetRecord E0308 ReplaceTarget E0308];
        DiscardRecord "losing_the_unfinished_copy":
            "plan: &cutover::Plan", "cutover::discard_record(plan, ",
            [E0061 AbortCommitted E0308 Rerun E0308 RestoreKv E0308 Reclaim E0308 DiscardRecord ok    ForgetRecord E0308 ReplaceTarget E0308];
        ForgetRecord "losing_writes_made_in_sql":
            "plan: &cutover::Plan", "cutover::forget_record(plan, ",
            [E0061 AbortCommitted E0308 Rerun E0308 RestoreKv E0308 Reclaim E0308 DiscardRecord E0308 ForgetRecord ok    ReplaceTarget E0308];
        ReplaceTarget "losing_the_database_for_good":
            "plan: &cutover::Plan", "cutover::replace_target(plan, ",
            [E0061 AbortCommitted E0308 Rerun E0308 RestoreKv E0308 Reclaim E0308 DiscardRecord E0308 ForgetRecord E0308 ReplaceTarget ok   ];
    }
}

/// A handle comes from looking at the disk, and from a move, and from nowhere else.
#[cfg(doctest)]
mod handles {
    pairs! {
        BuiltByItsConstructor: "let _ = cutover::Handle::<cutover::Fresh>::",
            [E0624 "new", ok "state"], ";";
        BuiltFromAnothersFields: "fn edge(handle: cutover::Handle<cutover::Fresh>) -> cutover::Handle<cutover::Fresh> { ",
            [E0451 "cutover::Handle { ..handle }", ok "handle"], " }";
        OfAnotherState: "fn edge(handle: cutover::Handle<cutover::Fresh>) -> cutover::Handle<cutover::",
            [E0308 "Committed", ok "Fresh"], "> { handle }";
        ItsFieldsAreNotRead: "fn edge(mut handle: cutover::Handle<cutover::Fresh>) { let _ = handle.state",
            [E0616 "", ok "()"], "; }";
        OfNoStage: "fn edge(_: cutover::Handle<", [E0277 "()", ok "cutover::Fresh"], ">) {}";
        AStageOfOnesOwn: "mod mine { pub trait Stage {} }\nenum Mine {}\nimpl ",
            [E0277 "cutover", ok "mine"], "::Stage for Mine {}";
        TheSealOfTheStages: "use cutover::", [E0603 "handle::sealed", ok "protocol"], "::Stage;";
        AStageIsNeverAValue: "fn edge() -> Option<cutover::Fresh> { ",
            [E0423 "Some(cutover::Fresh)", ok "None"], " }";
    }

    /// No handle, of whatever state, can be cloned, or comes from nothing.
    macro_rules! only_one {
        ($($state:ident)*) => {$(
            pub mod $state {
                pairs! {
                    Cloned: "fn is<T: ", [E0277 "Clone", ok "Send"],
                        concat!(">() {}\nis::<cutover::Handle<cutover::", stringify!($state), ">>();");
                    MadeByDefault: "fn is<T: ", [E0277 "Default", ok "Send"],
                        concat!(">() {}\nis::<cutover::Handle<cutover::", stringify!($state), ">>();");
                }
            }
        )*};
    }

    only_one! { Fresh Migrating Committed Tombstoned RerunAllowed }
}

#[cfg(test)]
mod agree;

/// A row of the table of the methods, as the tests read it.
#[cfg(test)]
struct Row {
    call: &'static str,
    kind: &'static str,
    intent: &'static str,
    cells: [&'static str; 5],
}
