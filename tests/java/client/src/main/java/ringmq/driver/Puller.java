package ringmq.driver;

/** A consumer that takes messages when it is told to. */
interface Puller {
    /** Does what {@code --do} says and gives the line about it. */
    Line act(Options options) throws Exception;

    void stop();
}
