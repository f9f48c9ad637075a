package ringmq.driver;

/**
 * Drives Apache's unmodified Java client and prints what it saw, one JSON object a line, so that a test in another
 * language can assert on it. The first argument names what to do, the rest are options (see {@link Options}).
 * Exit status: 0 done, 1 an exception nobody expected, 2 wrong usage.
 */
public final class Driver {
    private Driver() {
    }

    public static void main(String[] args) {
        if (args.length == 0) {
            System.err.println("usage: Driver send|push|litepull|pull|offsets|admin|lock|transaction|request|recall|stage|operator|strategies [--option value]...");
            System.exit(2);
        }
        Options options = new Options(args);
        int status = 0;
        try {
            run(args[0], options);
            new Line("done").print();
        } catch (Throwable e) {
            new Line("failed").error(e).print();
            e.printStackTrace();
            status = 1;
        }
        System.exit(status);
    }

    private static void run(String command, Options options) throws Exception {
        switch (command) {
            case "send":
                Send.run(options);
                break;
            case "push":
                Push.run(options);
                break;
            case "litepull":
                LitePull.run(options);
                break;
            case "pull":
                Pull.run(options);
                break;
            case "select":
                Select.run(options);
                break;
            case "offsets":
                Offsets.run(options);
                break;
            case "admin":
                Admin.run(options);
                break;
            case "query":
                Query.run(options);
                break;
            case "lock":
                Lock.run(options);
                break;
            case "transaction":
                Transaction.run(options);
                break;
            case "request":
                RequestReply.run(options);
                break;
            case "recall":
                Recall.run(options);
                break;
            case "stage":
                Stage.run(options);
                break;
            case "operator":
                Operator.run(options);
                break;
            case "strategies":
                Strategies.run(options);
                break;
            default:
                throw new IllegalArgumentException("unknown command " + command);
        }
    }
}
