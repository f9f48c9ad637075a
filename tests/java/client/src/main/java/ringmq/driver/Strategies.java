package ringmq.driver;

/**
 * Three members of a group for each way in which clients share {@code --queues} queues of {@code --topic} at broker
 * {@code --broker} ({@code room@name}), one after the other: a line {@code shared} says who has what. By configuration
 * the members take what they are told to, two each and three.
 */
final class Strategies {
    private Strategies() {
    }

    static void run(Options options) throws Exception {
        for (String name : new String[] {"averagely", "circle", "hash", "room", "nearby", "config"}) {
            Share share = new Share(options.text("namesrv"), name, "strategy_" + name, options);
            share.settled().print();
            share.stop();
        }
    }
}
