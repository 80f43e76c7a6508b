CREATE TABLE pools (
    address text PRIMARY KEY,
    program text NOT NULL,
    base_mint text NOT NULL,
    quote_mint text NOT NULL,
    fee_bps integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 10000),
    first_seen_slot bigint NOT NULL,
    is_active boolean NOT NULL DEFAULT true
);

CREATE TABLE quotes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool text NOT NULL REFERENCES pools (address),
    slot bigint NOT NULL,
    base_amount numeric(40, 0) NOT NULL,
    quote_amount numeric(40, 0) NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quotes_pool_slot ON quotes (pool, slot DESC);

CREATE TABLE opportunities (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot bigint NOT NULL,
    path text[] NOT NULL,
    expected_profit_lamports bigint NOT NULL,
    state text NOT NULL DEFAULT 'seen' CHECK (state IN ('seen', 'taken', 'skipped', 'expired')),
    reason text,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX opportunities_seen_at ON opportunities (seen_at);

CREATE TABLE trades (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity bigint REFERENCES opportunities (id),
    signature text NOT NULL UNIQUE,
    slot bigint,
    state text NOT NULL CHECK (state IN ('sent', 'landed', 'failed', 'dropped')),
    profit_lamports bigint,
    fee_lamports bigint,
    sent_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz
);
CREATE INDEX trades_sent_at ON trades (sent_at);
