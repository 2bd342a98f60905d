//! From rows to pieces: each row is a line, and enough lines are a piece.

use std::io;

use serde::{Deserialize, Serialize};

use super::pack::{Packing, pack};
use super::{Holes, Order, Piece, Shown, csv};
use crate::domain::{ConversationId, Cursor, Row};

/// A piece is closed with the row that makes its text this long, and with all others of its sequence: an export goes on
/// behind a sequence.
const PIECE_BYTES: usize = 1 << 20;

/// What a row becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line: what `yalo ingest` reads, but for raw rows.
    #[default]
    Ndjson,
    /// For spreadsheets.
    Csv,
}

impl Format {
    /// Back from the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// What a file's name ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Ndjson => ".ndjson",
            Self::Csv => ".csv",
        }
    }
}

/// Lines that are no piece yet.
pub(super) struct Press {
    format: Format,
    packing: Packing,
    text: Vec<u8>,
    rows: u64,
    cursor: Option<Cursor>,
    conversation: Option<ConversationId>,
    /// Nothing has come out yet, and nothing came before: an empty output is made one that can be opened.
    is_first: bool,
    /// The sequence before the next row, if none may be missing between.
    last: Option<u64>,
    is_consecutive: bool,
    holes: Option<Holes>,
}

impl Press {
    /// Of an order whose rows follow this sequence, if it is known which one.
    pub(super) fn new(order: &Order, last: Option<u64>) -> Self {
        let Order { format, packing, .. } = *order;
        let is_first = !order.is_begun;
        let mut text = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        if is_first && format == Format::Csv {
            text.extend_from_slice(csv::HEADER.as_bytes());
        }
        let is_consecutive = order.selection.is_consecutive();
        Self {
            format,
            packing,
            text,
            rows: 0,
            cursor: None,
            conversation: None,
            is_first,
            last,
            is_consecutive,
            holes: None,
        }
    }

    /// Adds rows, all of the last sequence among them; gives the pieces that became full.
    pub(super) fn add(&mut self, rows: &[Row]) -> io::Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            self.look_for_hole(row.seq);
            let shown = Shown::from(row);
            match self.format {
                Format::Ndjson => line(&mut self.text, &shown)?,
                Format::Csv => csv::write(&mut self.text, &shown),
            }
            self.rows += 1;
            self.cursor = Some(Cursor::new(row.at, row.seq));
            self.conversation = row.conversation;
            let has_twin = rows.get(index + 1).is_some_and(|next| next.seq == row.seq);
            if self.text.len() >= PIECE_BYTES && !has_twin {
                pieces.push(self.close()?);
            }
        }
        Ok(pieces)
    }

    /// The last piece, if there is something left to write.
    pub(super) fn finish(&mut self) -> io::Result<Vec<Piece>> {
        if self.rows == 0 && !self.is_first { Ok(Vec::new()) } else { Ok(vec![self.close()?]) }
    }

    fn look_for_hole(&mut self, seq: u64) {
        let missing = self.last.map(|last| last + 1).filter(|first| self.is_consecutive && *first < seq);
        let hole = missing.map(|first| Holes { first, count: seq - first });
        self.holes = Holes::join(self.holes, hole);
        self.last = Some(seq);
    }

    fn close(&mut self) -> io::Result<Piece> {
        let text = std::mem::replace(&mut self.text, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4));
        self.is_first = false;
        let rows = std::mem::take(&mut self.rows);
        let (cursor, conversation, holes) = (self.cursor.take(), self.conversation.take(), self.holes.take());
        Ok(Piece { bytes: pack(self.packing, text)?.into(), rows, cursor, conversation, holes })
    }
}

/// One line of NDJSON. `data` is kept byte for byte, but for line breaks between its words, which JSON allows and a line
/// can't have: they become spaces. Within words JSON has none.
fn line(text: &mut Vec<u8>, shown: &Shown) -> io::Result<()> {
    let start = text.len();
    serde_json::to_writer(&mut *text, shown)?;
    for byte in text.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::{Kind, Message, MessageId, Timestamp, Who};
    use crate::export::Selection;
    use crate::wire;

    fn row(seq: u64, text: &str, data: Option<&str>) -> Row {
        let message = Message {
            side: None,
            id: MessageId::new(),
            conversation: ConversationId::new(),
            who: Who::User,
            author: "ada, \"countess\"".to_owned(),
            kind: Kind::Text,
            text: Some(text.to_owned()),
            reply_to: None,
            bot: None,
            sent_at: Timestamp::from_ms(seq),
            data: data.map(|data| serde_json::value::RawValue::from_string(data.to_owned()).unwrap()),
        };
        Row {
            seq,
            at: Timestamp::from_ms(1_764_000_000_000 + seq),
            conversation: Some(message.conversation),
            id: Some(message.id),
            who: Some(message.who),
            kind: Some(message.kind),
            author: Some(message.author.clone()),
            subject: None,
            payload: wire::encode(&message).into(),
            digest: [0; 32],
        }
    }

    fn all(format: Format, rows: &[Row], is_first: bool) -> Vec<Piece> {
        let packing = Packing::None;
        let selection = Selection::default();
        let (after, after_in, end) = (None, None, None);
        let order = Order { selection, format, packing, after, after_in, end, is_begun: !is_first };
        let mut press = Press::new(&order, None);
        let mut pieces = press.add(rows).unwrap();
        pieces.extend(press.finish().unwrap());
        pieces
    }

    #[test]
    fn a_line_is_one_line_and_data_stays_as_it_came() {
        let data = "{\"price\": 1.50,\r\n  \"big\": 12345678901234567890123,\n \"text\": \"a\\nb\"}";
        let pieces = all(Format::Ndjson, &[row(7, "two\nlines\u{0}", Some(data))], true);
        let text = std::str::from_utf8(&pieces[0].bytes).unwrap();
        assert_eq!((text.lines().count(), text.ends_with('\n')), (1, true), "{text}");
        assert!(text.contains(&data.replace(['\r', '\n'], " ")), "{text}");
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&read["seq"], &read["text"]), (&7.into(), &"two\nlines\u{0}".into()));
        assert_eq!(read["cursor"], "1764000000007-7");
    }

    #[test]
    fn what_cannot_be_decoded_is_raw() {
        let nowhere = Row { conversation: None, id: None, subject: Some("a.b".to_owned()), ..row(8, "", None) };
        let raw = Row { payload: vec![0xff, 0].into(), ..nowhere };
        let text = all(Format::Ndjson, std::slice::from_ref(&raw), true)[0].bytes.clone();
        let read: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (&read["raw"], &read["subject"], &read["conversation"]),
            (&"/wA=".into(), &"a.b".into(), &Value::Null)
        );
        let text = all(Format::Csv, &[raw], false)[0].bytes.clone();
        assert_eq!(text, "8,2025-11-24T16:00:00.008Z,1764000000008-8,,,,,,,,,,,,,a.b,/wA=\r\n");
        assert_eq!(text.split(|byte| *byte == b',').count(), csv::HEADER.split(',').count());
    }

    #[test]
    fn pieces_follow_from_where_they_begin() {
        let rows: Vec<Row> = (1..=9000).map(|seq| row(seq, &"word ".repeat(100), None)).collect();
        for format in [Format::Ndjson, Format::Csv] {
            let pieces = all(format, &rows, true);
            assert!(pieces.len() > 3, "{}", pieces.len());
            assert_eq!(pieces.iter().map(|piece| piece.rows).sum::<u64>(), 9000);
            let first = pieces[0].cursor.unwrap().seq;
            let rest = all(format, &rows[usize::try_from(first).unwrap()..], false);
            let bytes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.bytes.clone()).collect::<Vec<_>>();
            assert_eq!(bytes(&pieces[1..]), bytes(&rest));
        }
    }

    #[test]
    fn two_rows_at_one_sequence_lie_in_one_piece() {
        let long = "word ".repeat(3200);
        let rows: Vec<Row> = (0..900).map(|number| row(1 + number / 2, &long, None)).collect();
        let pieces = all(Format::Ndjson, &rows, true);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.rows % 2 == 0), "{}", pieces.len());
        assert_eq!(pieces.iter().map(|piece| piece.rows).sum::<u64>(), 900);
    }

    #[test]
    fn what_is_missing_between_rows_is_counted_by_piece() {
        let rows = [3, 4, 7, 8, 10].map(|seq| row(seq, "", None));
        let pieces = all(Format::Ndjson, &rows, true);
        assert_eq!(pieces[0].holes, Some(Holes { first: 5, count: 3 }));
        assert_eq!(Holes::join(None, pieces[0].holes), pieces[0].holes);
        assert_eq!(all(Format::Ndjson, &rows[..2], true)[0].holes, None);
    }

    #[test]
    fn nothing_is_a_whole_output_too() {
        assert_eq!(all(Format::Csv, &[], true)[0].bytes, csv::HEADER);
        assert_eq!(all(Format::Ndjson, &[], true).len(), 1);
        assert_eq!(all(Format::Ndjson, &[], false).len(), 0);
    }
}
