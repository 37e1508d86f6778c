"""Does a folder of artifacts hold what it promises?"""
