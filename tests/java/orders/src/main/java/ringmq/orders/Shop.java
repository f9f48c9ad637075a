package ringmq.orders;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * One service of the shop: {@code Shop order --database order.db --namesrv 127.0.0.1:9876 ...} (see {@link Service}).
 * It says {@code ready} when it serves, and ends when its standard input ends, so that it never outlives who started it.
 */
public final class Shop {
    private Shop() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            System.err.println("usage: Shop order|stock|coupon|balance|payment|points|log --option value...");
            System.exit(2);
        }
        Steps steps = new Steps();
        Service service = new Service(new Options(args), steps);
        switch (args[0]) {
            case "order" -> OrderService.start(service);
            case "stock" -> DeductionService.start(service, Counted.stock(), Groups.STOCK);
            case "coupon" -> DeductionService.start(service, new Coupons(), Groups.COUPON);
            case "balance" -> DeductionService.start(service, Counted.balances(), Groups.BALANCE);
            case "payment" -> PaymentService.start(service);
            case "points" -> PointsService.start(service);
            case "log" -> LogService.start(service);
            default -> throw new IllegalArgumentException("there is no service " + args[0]);
        }
        System.out.println("ready");
        obey(steps, service.database);
        // The client's threads are no daemons.
        System.exit(0);
    }

    /** Holds at steps, lets go and changes the database as told, until there is nobody left to tell. */
    private static void obey(Steps steps, Database database) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.startsWith("hold ")) {
                steps.hold(line.substring("hold ".length()));
                System.out.println("armed");
            } else if (line.equals("go on")) {
                steps.goOn();
            } else if (line.startsWith("sql ")) {
                String statement = line.substring("sql ".length());
                database.transaction(transaction -> transaction.change(statement));
                System.out.println("changed");
            }
        }
    }
}
