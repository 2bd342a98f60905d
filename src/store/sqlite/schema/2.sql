-- Version 2: the oldest rows go by age, and leave a receipt. What lies below the highest `below_seq` is not missing.
CREATE TABLE retired (
    below_seq INTEGER PRIMARY KEY, -- every row below went by then
    messages INTEGER NOT NULL,     -- rows that went since the receipt before; there is one receipt a day
    before_ns INTEGER NOT NULL,    -- they had been stored before this instant
    retired_ns INTEGER NOT NULL    -- when the last of them went
);
