-- expand: pools, quotes, opportunities, trades
CREATE TABLE pools (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address text NOT NULL UNIQUE,
    program text NOT NULL,
    base_mint text NOT NULL,
    quote_mint text NOT NULL,
    fee_bps integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 10000),
    first_seen_slot bigint NOT NULL,
    is_active boolean NOT NULL DEFAULT true
);
CREATE INDEX pools_pair ON pools (base_mint, quote_mint) WHERE is_active;

-- Written all the time, never changed, asked for by pool, or as a stretch of time or slots. Rows stand in the order of time, so a BRIN index
-- of some pages does what a B-tree of gigabytes would. No primary key: nobody refers to a quote, and each index costs at every insert.
CREATE TABLE quotes (
    pool integer NOT NULL REFERENCES pools (id),
    slot bigint NOT NULL,
    base_amount numeric(40, 0) NOT NULL,
    quote_amount numeric(40, 0) NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (seen_at);
CREATE INDEX quotes_pool_seen_at ON quotes (pool, seen_at DESC);
CREATE INDEX quotes_seen_at ON quotes USING brin (seen_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX quotes_slot ON quotes USING brin (slot) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE opportunities (
    id bigint GENERATED ALWAYS AS IDENTITY,
    slot bigint NOT NULL,
    path text[] NOT NULL,
    expected_profit_lamports bigint NOT NULL,
    state text NOT NULL DEFAULT 'seen' CHECK (state IN ('seen', 'taken', 'skipped', 'expired')),
    reason text,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, seen_at)
) PARTITION BY RANGE (seen_at);
-- Few are open at a time, and only they are looked for by profit.
CREATE INDEX opportunities_open ON opportunities (expected_profit_lamports DESC) WHERE state = 'seen';
CREATE INDEX opportunities_seen_at ON opportunities USING brin (seen_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX opportunities_slot ON opportunities USING brin (slot) WITH (pages_per_range = 32, autosummarize = on);

-- Kept for ever, in one table: few rows beside the others. An opportunity may be gone before its trade, so there is no foreign key.
CREATE TABLE trades (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity bigint,
    signature text NOT NULL UNIQUE,
    slot bigint,
    state text NOT NULL CHECK (state IN ('sent', 'landed', 'failed', 'dropped')),
    profit_lamports bigint,
    fee_lamports bigint,
    sent_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz
) WITH (fillfactor = 90);
CREATE INDEX trades_opportunity ON trades (opportunity) WHERE opportunity IS NOT NULL;
CREATE INDEX trades_in_flight ON trades (sent_at) WHERE state = 'sent';
CREATE INDEX trades_landed ON trades (settled_at) INCLUDE (profit_lamports, fee_lamports) WHERE state = 'landed';
CREATE INDEX trades_sent_at ON trades USING brin (sent_at) WITH (autosummarize = on);

GRANT SELECT, INSERT, UPDATE ON pools, opportunities, trades TO qtrade_client;
GRANT SELECT, INSERT ON quotes TO qtrade_client;
