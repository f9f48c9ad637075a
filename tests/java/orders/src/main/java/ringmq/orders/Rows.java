package ringmq.orders;

import java.sql.Connection;
import java.sql.DriverManager;

/**
 * Reads the services' databases from outside, for the audit: {@code Rows order.db stock.db ...} prints every row of
 * every table as one JSON object a line.
 */
public final class Rows {
    private Rows() {
    }

    public static void main(String[] files) throws Exception {
        StringBuilder out = new StringBuilder();
        for (String file : files) {
            read(file, out);
        }
        System.out.print(out);
    }

    private static void read(String file, StringBuilder out) throws Exception {
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + file)) {
            // One view of all tables of a file.
            connection.setAutoCommit(false);
            Transaction transaction = new Transaction(connection);
            for (Row table : transaction.rows(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")) {
                String name = table.text("name");
                for (Row row : transaction.rows("SELECT * FROM " + name)) {
                    out.append(json(file, name, row)).append('\n');
                }
            }
        }
    }

    private static String json(String file, String table, Row row) {
        StringBuilder json = new StringBuilder("{\"file\":").append(quoted(file)).append(",\"table\":")
            .append(quoted(table));
        row.values().forEach((column, value) -> {
            if (!(value instanceof byte[])) {
                json.append(',').append(quoted(column)).append(':')
                    .append(value == null || value instanceof Number ? String.valueOf(value) : quoted(value.toString()));
            }
        });
        return json.append('}').toString();
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }
}
