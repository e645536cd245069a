// What the program calls of its own libraries; nothing here names a handler.
int ApplicationVersion();
int ApplicationVersion() {
    return 1;
}
