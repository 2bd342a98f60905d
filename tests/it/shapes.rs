//! The same cases against both shapes of a deployment: `yalo all`, and a fleet.

use crate::harness::{All, Fleet, Place};

/// Each case as a test of its own against `yalo all`, and all of them, one after the other, against one fleet.
macro_rules! in_both_shapes {
    ($($(#[$attribute:meta])* async fn $name:ident($place:ident: &Place) $body:block)*) => {
        mod cases {
            #[allow(unused_imports, reason = "what the cases of this file need")]
            use super::*;
            $($(#[$attribute])* pub(super) async fn $name($place: &Place) $body)*
        }
        mod all {
            $(#[tokio::test]
            async fn $name() {
                $crate::shapes::with_all(async |place| super::cases::$name(&place).await).await;
            })*
        }
        #[tokio::test]
        async fn the_same_holds_in_a_fleet() {
            $crate::shapes::with_fleet(async |place| {
                $(println!("case: {}", stringify!($name));
                cases::$name(&place).await;)*
            }).await;
        }
    };
}
pub(crate) use in_both_shapes;

/// Runs a case against `yalo all`, which has to stop cleanly afterwards.
pub(crate) async fn with_all(case: impl AsyncFnOnce(Place)) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    case(all.place()).await;
    all.stop().await;
}

/// Runs a case against a fleet, which has to stop cleanly afterwards.
pub(crate) async fn with_fleet(case: impl AsyncFnOnce(Place)) {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    case(fleet.place()).await;
    fleet.stop().await;
}
