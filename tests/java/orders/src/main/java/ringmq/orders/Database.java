package ringmq.orders;

import java.sql.Connection;
import java.sql.SQLException;
import org.sqlite.SQLiteConfig;

/** A service's own database: one file, one connection, one transaction at a time. */
final class Database {
    interface Work<T> {
        T in(Transaction transaction) throws Exception;
    }

    private final Connection connection;

    private Database(Connection connection) {
        this.connection = connection;
    }

    static Database open(String file) throws SQLException {
        SQLiteConfig config = new SQLiteConfig();
        // A commit is on the disk when it returns, and others may read the file meanwhile.
        config.setJournalMode(SQLiteConfig.JournalMode.WAL);
        config.setSynchronous(SQLiteConfig.SynchronousMode.FULL);
        config.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        config.setBusyTimeout(10_000);
        Connection connection = config.createConnection("jdbc:sqlite:" + file);
        connection.setAutoCommit(false);
        return new Database(connection);
    }

    /** Does all of {@code work}, or nothing of it when it throws. */
    synchronized <T> T transaction(Work<T> work) throws Exception {
        try {
            T result = work.in(new Transaction(connection));
            connection.commit();
            return result;
        } catch (Throwable e) {
            connection.rollback();
            throw e;
        }
    }
}
