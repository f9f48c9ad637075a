package ringmq.orders;

import java.sql.SQLException;
import java.util.Optional;

/**
 * What became of each message, by group, tag and key. The row is written in the transaction of the change that the
 * message asked for, so a message that comes again finds either both or neither.
 */
final class ConsumeLog {
    static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS consume_log (
            group_name TEXT NOT NULL,
            tag TEXT NOT NULL,
            message_key TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('DONE', 'FAILED', 'DEAD')),
            refusals INTEGER NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (group_name, tag, message_key))""";

    /** A message that was refused so often is dead, and the broker keeps it as a dead letter. */
    private static final int REFUSALS_MAX = 4;

    /** What is to become of a message. */
    enum Outcome {
        DONE,
        AGAIN,
        DEAD
    }

    interface Change {
        void make(Transaction transaction, Form body) throws Exception;
    }

    /** Whose message it is, and which. */
    record Receipt(String group, String tag, String key) {
    }

    private final Database database;
    private final Steps steps;

    ConsumeLog(Database database, Steps steps) {
        this.database = database;
        this.steps = steps;
    }

    /** Makes the change unless it has been made. */
    Outcome once(Receipt receipt, Form body, Change change) throws Exception {
        try {
            Outcome outcome = database.transaction(transaction -> {
                Optional<Row> known = find(transaction, receipt);
                if (isFinal(known)) {
                    return Outcome.valueOf(known.get().text("status"));
                }
                change.make(transaction, body);
                write(transaction, receipt, "DONE", refusals(known), "");
                steps.reached("changed");
                return Outcome.DONE;
            });
            steps.reached("consumed");
            return outcome;
        } catch (Exception e) {
            return database.transaction(transaction -> fail(transaction, receipt, e));
        }
    }

    /** Only a refusal counts. What fails for another reason, such as a full disk, is not the message's fault. */
    private static Outcome fail(Transaction transaction, Receipt receipt, Exception reason) throws SQLException {
        Optional<Row> known = find(transaction, receipt);
        if (isFinal(known)) {
            // It was looking that failed.
            return Outcome.valueOf(known.get().text("status"));
        }
        long refusals = refusals(known) + (reason instanceof Refusal ? 1 : 0);
        boolean dead = refusals >= REFUSALS_MAX;
        write(transaction, receipt, dead ? "DEAD" : "FAILED", refusals, String.valueOf(reason.getMessage()));
        return dead ? Outcome.DEAD : Outcome.AGAIN;
    }

    private static boolean isFinal(Optional<Row> known) {
        return known.isPresent() && !known.get().text("status").equals("FAILED");
    }

    private static long refusals(Optional<Row> known) {
        return known.map(row -> row.number("refusals")).orElse(0L);
    }

    private static Optional<Row> find(Transaction transaction, Receipt receipt) throws SQLException {
        return transaction.row(
            "SELECT status, refusals FROM consume_log WHERE group_name = ? AND tag = ? AND message_key = ?",
            receipt.group(), receipt.tag(), receipt.key());
    }

    private static void write(Transaction transaction, Receipt receipt, String status, long refusals, String reason)
        throws SQLException {
        transaction.change("""
            INSERT INTO consume_log (group_name, tag, message_key, status, refusals, reason) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET status = excluded.status, refusals = excluded.refusals, reason = excluded.reason""",
            receipt.group(), receipt.tag(), receipt.key(), status, refusals, reason);
    }
}
