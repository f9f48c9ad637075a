package ringmq.orders;

import java.sql.SQLException;

/** Something that orders take from and give back to, and how much of it. */
interface Goods {
    /** The table that says what is left. */
    String schema();

    /** Puts what there is in the beginning, as {@code name=amount}, unless it is there already. */
    void stockUp(Transaction transaction, Form initial) throws SQLException;

    /** Which one an order wants. */
    String item(Order order);

    /** How much of it. */
    long amount(Order order);

    /** Takes it for the order. */
    void take(Transaction transaction, Order order) throws SQLException, Refusal;

    void giveBack(Transaction transaction, String item, long amount) throws SQLException;
}
