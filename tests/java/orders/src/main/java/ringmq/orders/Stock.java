package ringmq.orders;

import java.sql.SQLException;
import java.util.Map;

/** Pieces of each product. */
final class Stock implements Goods {
    @Override
    public String schema() {
        return "CREATE TABLE IF NOT EXISTS stock (product TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0))";
    }

    @Override
    public void stockUp(Transaction transaction, Form initial) throws SQLException {
        for (Map.Entry<String, String> product : initial.fields().entrySet()) {
            transaction.change("INSERT INTO stock VALUES (?, ?) ON CONFLICT DO NOTHING",
                product.getKey(), Long.valueOf(product.getValue()));
        }
    }

    @Override
    public String item(Order order) {
        return order.product();
    }

    @Override
    public long amount(Order order) {
        return order.quantity();
    }

    @Override
    public void take(Transaction transaction, Order order) throws SQLException, Refusal {
        int rows = transaction.change("UPDATE stock SET pieces = pieces - ? WHERE product = ? AND pieces >= ?",
            order.quantity(), order.product(), order.quantity());
        if (rows == 0) {
            throw new Refusal(order.product() + " is sold out");
        }
    }

    @Override
    public void giveBack(Transaction transaction, String product, long pieces) throws SQLException {
        transaction.change("UPDATE stock SET pieces = pieces + ? WHERE product = ?", pieces, product);
    }
}
