#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using sql::Transaction;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MessageOf;

class SqliteTransactionTest : public testing::SqliteTest {
protected:
    Transaction Begin() { return Transaction::Begin(*db_).value(); }

    void Insert(std::int64_t id) { Must(*db_, "INSERT INTO orders VALUES (?, 'x')", {id}); }

    std::vector<std::int64_t> Ids() {
        std::vector<std::int64_t> ids;
        auto rows = db_->Query("SELECT id FROM orders ORDER BY id").value();
        while (rows.Next().value()) {
            ids.push_back(rows.Get<std::int64_t>(0).value());
        }
        return ids;
    }

    std::unique_ptr<sql::Connection> db_ = OpenWithTable();
};

TEST_F(SqliteTransactionTest, OnlyWhatWasCommittedIsSeenByOthers) {
    const auto other = OpenConnection();
    auto tx = Begin();
    ASSERT_TRUE(tx.Execute("INSERT INTO orders VALUES (?, ?)", {1, "a"}).ok());
    EXPECT_EQ(Count(*other), 0);
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(Count(*other), 1);
}

TEST_F(SqliteTransactionTest, DroppingRollsBack) {
    {
        const auto tx = Begin();
        Insert(1);
        EXPECT_TRUE(db_->InTransaction());
    }
    EXPECT_FALSE(db_->InTransaction());
    EXPECT_THAT(Ids(), ElementsAre());
}

TEST_F(SqliteTransactionTest, ClosingRollsBackAndTheTransactionCopes) {
    {
        auto tx = Begin();
        Insert(1);
        db_->Close();
        EXPECT_EQ(tx.Commit().code(), StatusCode::kCancelled);
        EXPECT_FALSE(tx.active());
    }
    EXPECT_EQ(Count(*OpenConnection()), 0);
}

TEST_F(SqliteTransactionTest, ANestedOneIsUndoneAlone) {
    auto tx = Begin();
    Insert(1);
    {
        const auto undone = tx.Nested().value();
        Insert(2);
    }
    {
        auto kept = tx.Nested().value();
        Insert(3);
        auto deeper = kept.Nested().value();
        Insert(4);
        ASSERT_TRUE(deeper.Rollback().ok());
        Insert(5);
        ASSERT_TRUE(kept.Commit().ok());
    }
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(Ids(), ElementsAre(1, 3, 5));
}

TEST_F(SqliteTransactionTest, ANestedCommitIsUndoneWithItsParent) {
    {
        auto tx = Begin();
        auto nested = tx.Nested().value();
        Insert(1);
        ASSERT_TRUE(nested.Commit().ok());
    }
    EXPECT_THAT(Ids(), ElementsAre());
}

TEST_F(SqliteTransactionTest, ABrokenConstraintUndoesOnlyItsStatement) {
    auto tx = Begin();
    Insert(1);
    EXPECT_EQ(tx.Execute("INSERT INTO orders VALUES (2, 'a'), (1, 'b')").status().code(),
              StatusCode::kAlreadyExists);
    Insert(3);
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(Ids(), ElementsAre(1, 3));
}

TEST_F(SqliteTransactionTest, ADeferredConstraintFailsTheCommitWhichMayBeTriedAgain) {
    Must(*db_,
         "CREATE TABLE lines (o INTEGER REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)");
    auto tx = Begin();
    Must(*db_, "INSERT INTO lines VALUES (9)");
    EXPECT_EQ(tx.Commit().code(), StatusCode::kFailedPrecondition);
    EXPECT_TRUE(tx.active());
    Insert(9);
    EXPECT_TRUE(tx.Commit().ok());
    EXPECT_THAT(Ids(), ElementsAre(9));
}

TEST_F(SqliteTransactionTest, AfterTheDatabaseRolledBackNothingRunsUntilTheEnd) {
    std::vector<std::string> heard;
    {
        auto tx = Begin();
        ASSERT_TRUE(tx.OnRollback([&] { heard.emplace_back("rolled back"); }).ok());
        Insert(1);
        auto nested = tx.Nested().value();
        const auto failed =
            tx.Execute("INSERT OR ROLLBACK INTO orders VALUES (1, 'again')").status();
        EXPECT_EQ(failed.code(), StatusCode::kAlreadyExists);

        // Each of these would now be stored by itself.
        const auto later = db_->Execute("INSERT INTO orders VALUES (2, 'b')").status();
        EXPECT_EQ(later.code(), StatusCode::kAlreadyExists);
        EXPECT_THAT(MessageOf(later), HasSubstr("has rolled this transaction back, after"));
        EXPECT_FALSE(nested.Commit().ok());
        EXPECT_FALSE(nested.active());
        EXPECT_EQ(tx.Commit().code(), StatusCode::kAlreadyExists);
        EXPECT_FALSE(tx.active());
    }
    EXPECT_THAT(heard, ElementsAre("rolled back"));
    EXPECT_THAT(Ids(), ElementsAre());
    auto next = Begin();
    Insert(3);
    EXPECT_TRUE(next.Commit().ok());
    EXPECT_THAT(Ids(), ElementsAre(3));
}

TEST_F(SqliteTransactionTest, AReadTransactionRefusesToWrite) {
    auto tx = Transaction::Begin(*db_, {.access = sql::Access::kRead}).value();
    const auto status = tx.Execute("INSERT INTO orders VALUES (1, 'a')").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(status), HasSubstr("Access::kRead"));
    ASSERT_TRUE(tx.Commit().ok());
    Insert(1);  // And it is forgotten afterwards.
}

TEST_F(SqliteTransactionTest, ACommitHookFindsTheRowStored) {
    const auto other = OpenConnection();
    auto tx = Begin();
    Insert(1);
    std::int64_t seen = -1;
    ASSERT_TRUE(tx.OnCommit([&] { seen = Count(*other); }).ok());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(seen, 1);
}

TEST_F(SqliteTransactionTest, ACommitHookMayDeleteTheRowThroughTheSameConnection) {
    auto tx = Begin();
    Insert(1);
    ASSERT_TRUE(tx.OnCommit([&] { Must(*db_, "DELETE FROM orders WHERE id = ?", {1}); }).ok());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(Ids(), ElementsAre());
}

TEST_F(SqliteTransactionTest, AKilledProcessLeavesOnlyWhatItHadCommitted) {
    db_->Close();
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        options_.synchronous = Synchronous::kFull;
        db_ = OpenConnection();
        auto first = Begin();
        Insert(1);
        const bool committed = first.Commit().ok();
        auto second = Begin();
        // More than the page cache holds, so that uncommitted pages are in the file.
        for (int id = 2; id < 6; ++id) {
            Must(*db_, "INSERT INTO orders VALUES (?, ?)", {id, std::string(4 << 20, 'x')});
        }
        const char answer = committed && second.active() ? 'y' : 'n';
        (void)!write(ready[1], &answer, 1);
        for (;;) {
            pause();
        }
    }
    char answer = 0;
    ASSERT_EQ(read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int how = 0;
    ASSERT_EQ(waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how));
    close(ready[0]);
    close(ready[1]);

    ASSERT_GT(std::filesystem::file_size(options_.path + "-wal"), 4U << 20);
    db_ = OpenConnection();
    EXPECT_THAT(Ids(), ElementsAre(1));
    EXPECT_EQ(std::get<0>(**db_->QueryOne<std::string>("PRAGMA integrity_check")), "ok");
}

}  // namespace
}  // namespace qmq::sqlite
