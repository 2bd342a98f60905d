//! The audit store: whether it can be read, and whether it is set as its promises need.

use super::{Diagnosis, Finding};
use crate::app::Reached;
use crate::store::Contract;

pub(super) async fn examine(all: &mut Diagnosis, reached: &Reached) {
    let store = match reached.open_store(true).await {
        Ok(store) => store,
        Err(error) => {
            all.add(Finding::risk(
                "store",
                format!("the store can't be looked at here: {error:#}"),
                "nothing is stored if auditors see the same; the stream holds it until then",
                "run this where the auditors run; see store.path",
            ));
            return;
        }
    };
    match (store.settings().await, store.totals().await) {
        (Ok(settings), Ok(totals)) => {
            for setting in settings.iter().filter(|setting| !setting.fits) {
                let found = format!("{} is {}, and should be {}", setting.name, setting.found, setting.wanted);
                all.add(Finding::risk("store", found, setting.risk, setting.mend));
            }
            let names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
            let messages = totals.messages;
            all.add(Finding::ok("store", format!("{messages} messages are stored; looked at {}", names.join(", "))));
        }
        (Err(error), _) | (_, Err(error)) => all.add(Finding::fault(
            "store",
            format!("the store can't be read: {error}"),
            "nothing can be shown or proved",
            "see `yalo audit verify`, and what the README says of backups",
        )),
    }
    if let Err(error) = store.close().await {
        tracing::debug!(%error, "the store did not close");
    }
}
